-- Pointers followed to the first report of the chain; each step doubles how far.
with reached_1 as (
    select event_key, case_key from {{ ref('int_duplicate_repeats') }}
),

{{ pointers_followed() }}

select event_key, case_key as first_key from reached_64
