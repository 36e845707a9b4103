-- Stops with a text that names feed, share and the most frequent strings: the number of bad rows alone helps nobody.
with labels as (
    select city, feed, 'category' as said, concat_ws(' / ', category, subcategory, code) as label, n_events
    from {{ ref('unmapped_categories') }}
    where coalesce(category, subcategory, code) is not null
    union all
    select city, feed, 'status' as said, source_status as label, n_events from {{ ref('unmapped_statuses') }}
),

ranked as (
    select
        *,
        row_number() over (partition by city, feed, said order by n_events desc, label) as place
    from labels
),

unmapped as (
    select
        city,
        feed,
        said,
        sum(n_events) as n_unmapped,
        {#- A source may write whole pages into a label. -#}
        {% for place in [1, 2, 3] %}
        max(
            case when place = {{ place }} then '"' || substring(label, 1, 60) || '" ' || n_events end
        ) as label_{{ place }}{{ ',' if not loop.last }}
        {% endfor %}
    from ranked
    group by city, feed, said
),

events as (
    select city, feed, count(*) as n_events from {{ ref('fct_events') }} group by city, feed
),

feeds as (
    select * from {{ ref('stg_feeds') }}
),

{#- A feed whose declaration is older than the limit has none and is not judged. -#}
excessive as (
    select
        unmapped.city || '.' || unmapped.feed || ': the ' || unmapped.said || ' of '
            || cast(round(100.0 * unmapped.n_unmapped / events.n_events, 2) as varchar) || ' % of its '
            || events.n_events || ' events is mapped by no declaration, '
            || cast(round(100.0 * feeds.max_unmapped_share, 2) as varchar) || ' % may be: '
            || concat_ws(', ', unmapped.label_1, unmapped.label_2, unmapped.label_3)
            || '; map them in '
            || case when unmapped.said = 'status' then '`statuses:`' else unmapped.feed || '.categories.csv' end
            || ', or raise `expect.max_unmapped_share`' as message
    from unmapped
    inner join events on unmapped.city = events.city and unmapped.feed = events.feed
    inner join feeds on unmapped.city = feeds.city and unmapped.feed = feeds.feed
    where unmapped.n_unmapped > feeds.max_unmapped_share * events.n_events
),

told as (
    select {{ joined_texts('message', ' | ') }} as message from excessive
)

select message from told
where message is not null and {{ stops_with('message') }}
