-- An allow-list: what is not named here is not published. Of the place it tells what the story does, a street and an area.
with stories as (
    select * from {{ ref('mart_request_story') }} where is_publishable
),

cities as (
    select * from {{ ref('dim_city') }}
),

feeds as (
    select * from {{ ref('dim_feed') }}
)

select
    stories.service_request_id,
    stories.city,
    stories.feed,
    {{ city_label('cities') }} as city_name,
    cities.is_simulated,
    stories.label as service_label,
    stories.reported_on as requested_on,
    stories.n_other_report,
    stories.n_inferred_report,
    stories.failed_on,
    stories.failure_repaired_on,
    stories.work_finished_on,
    stories.is_case_open,
    stories.case_closed_on,
    stories.story,
    feeds.publisher as source_publisher,
    feeds.licence as source_licence,
    stories.as_of_at
from stories
inner join cities on stories.city = cities.city
inner join feeds on stories.city = feeds.city and stories.feed = feeds.feed
