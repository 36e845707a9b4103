-- Chains longer than int_duplicate_chains follows: its stops that point on, followed on in strides of 64. A street light
-- that nobody mends and somebody reports every week is such a chain after a year.
with reached_1 as (
    select chains.event_key, chains.first_key as case_key
    from {{ ref('int_duplicate_chains') }} as chains
    inner join (select distinct first_key from {{ ref('int_duplicate_chains') }}) as stops
        on chains.event_key = stops.first_key
),

{% for strides in [1, 2, 4, 8, 16, 32] %}
reached_{{ strides * 2 }} as (
    select one.event_key, coalesce(other.case_key, one.case_key) as case_key
    from reached_{{ strides }} as one
    left join reached_{{ strides }} as other on one.case_key = other.event_key
),

{% endfor %}
final as (
    select event_key, case_key as first_key from reached_64
)

select * from final
