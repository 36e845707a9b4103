-- Pointers followed to the first report of the chain; each step doubles how far.
with reached_1 as (
    select event_key, case_key from {{ ref('int_duplicate_repeats') }}
),

{% for steps in [1, 2, 4, 8, 16, 32] %}
reached_{{ steps * 2 }} as (
    select one.event_key, coalesce(other.case_key, one.case_key) as case_key
    from reached_{{ steps }} as one
    left join reached_{{ steps }} as other on one.case_key = other.event_key
),

{% endfor %}
final as (
    select event_key, case_key as first_key from reached_64
)

select * from final
