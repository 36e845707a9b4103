-- Chains longer than int_duplicate_chains follows: its stops that point on, followed on in strides of 64. A street light
-- that nobody mends and somebody reports every week is such a chain after a year.
with reached_1 as (
    select chains.event_key, chains.first_key as case_key
    from {{ ref('int_duplicate_chains') }} as chains
    inner join (select distinct first_key from {{ ref('int_duplicate_chains') }}) as stops
        on chains.event_key = stops.first_key
),

{{ pointers_followed() }}

select event_key, case_key as first_key from reached_64
