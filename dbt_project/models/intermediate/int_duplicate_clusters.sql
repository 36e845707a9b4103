{%- set rules = duplicate_rules() -%}
{#- A square whose diagonal is the greatest diameter. -#}
{%- set side = (rules.diameter_m ** 2 / 2) ** 0.5 -%}

-- Chains of reports that repeat each other, cut to clusters with one case each.
with followed as (
    select chains.event_key, coalesce(far_chains.first_key, chains.first_key) as first_key
    from {{ ref('int_duplicate_chains') }} as chains
    left join {{ ref('int_duplicate_far_chains') }} as far_chains on chains.first_key = far_chains.event_key
),

chained as (
    select event_key, first_key from followed
    union
    select first_key as event_key, first_key from followed
),

reports as (
    select
        reports.*,
        reports.is_duplicate and reports.parent_key is null as is_bare_label
    from {{ ref('int_duplicate_reports') }} as reports
    inner join chained on reports.event_key = chained.event_key
),

placed as (
    select
        reports.event_key,
        reports.event_at,
        reports.event_on,
        reports.time_precision,
        reports.is_bare_label,
        chained.first_key,
        {{ report_lag_days('firsts', 'reports') }} as lag_days,
        coalesce(reports.x_m - firsts.x_m, 0) as east_m,
        coalesce(reports.y_m - firsts.y_m, 0) as north_m
    from chained
    inner join reports on chained.event_key = reports.event_key
    inner join reports as firsts on chained.first_key = firsts.event_key
),

extents as (
    select
        first_key,
        max(lag_days) > {{ rules.span_days }}
        or (max(east_m) - min(east_m)) * (max(east_m) - min(east_m))
        + (max(north_m) - min(north_m)) * (max(north_m) - min(north_m)) > {{ rules.diameter_m ** 2 }} as is_too_long
    from placed
    group by first_key
),

-- A chain that is too long or too wide is cut where that does not depend on the order of steps: in spans of days from
-- its first report and in squares about its first report.
pieces as (
    select
        placed.event_key,
        first_value(placed.event_key) over (
            partition by
                placed.first_key,
                case when extents.is_too_long then floor(placed.lag_days / {{ rules.span_days }}) end,
                case when extents.is_too_long then floor(placed.east_m / {{ side }} + 0.5) end,
                case when extents.is_too_long then floor(placed.north_m / {{ side }} + 0.5) end
            order by placed.is_bare_label, placed.event_at, placed.event_key
        ) as canonical_event_key
    from placed
    inner join extents on placed.first_key = extents.first_key
),

{#- Whoever came after the first of the piece was closed reports anew, with the first of them as the case; three times,
    then each stands for itself. -#}
{% for round in range(4) %}
judged_{{ round }} as (
    select
        reports.event_key,
        reports.event_at,
        reports.is_bare_label,
        members.canonical_event_key,
        {{ is_after_closing('cases', 'reports') }} as is_late
    from {{ 'pieces' if loop.first else 'regrouped_' ~ (round - 1) }} as members
    inner join reports on members.event_key = reports.event_key
    inner join reports as cases on members.canonical_event_key = cases.event_key
),

regrouped_{{ round }} as (
    select
        event_key,
        first_value(event_key) over (
            partition by canonical_event_key order by is_bare_label, event_at, event_key
        ) as canonical_event_key
    from judged_{{ round }}
    where is_late
),

{% endfor %}
members as (
    {% for round in range(4) %}
    select event_key, canonical_event_key from judged_{{ round }}
    where not is_late and event_key <> canonical_event_key
    {{ 'union all' if not loop.last }}
    {% endfor %}
)

select
    reports.city,
    members.event_key,
    members.canonical_event_key,
    sqrt({{ report_distance2('reports', 'cases') }}) as distance_m,
    {{ report_lag_days('cases', 'reports') }} as lag_days
from members
inner join reports on members.event_key = reports.event_key
inner join reports as cases on members.canonical_event_key = cases.event_key
where not cases.is_bare_label
