{%- set rules = duplicate_rules() -%}

-- The corners of a piece lie exactly 120 m apart, so a millimetre is left to the last bit of its coordinates; days are
-- counted between dates or as spans of 24 hours, which differ by the hour of a clock change.
with members as (
    select event_key, canonical_event_key from {{ ref('int_duplicate_clusters') }}
    union
    select canonical_event_key as event_key, canonical_event_key from {{ ref('int_duplicate_clusters') }}
)

select members.canonical_event_key
from members
inner join {{ ref('int_duplicate_reports') }} as reports on members.event_key = reports.event_key
group by members.canonical_event_key
having
    {{ seconds_between('min(reports.event_at)', 'max(reports.event_at)') }} > {{ rules.span_days }} * 86400 + 3600
    or (max(reports.x_m) - min(reports.x_m)) * (max(reports.x_m) - min(reports.x_m))
    + (max(reports.y_m) - min(reports.y_m)) * (max(reports.y_m) - min(reports.y_m))
    > ({{ rules.diameter_m }} + 0.001) * ({{ rules.diameter_m }} + 0.001)
