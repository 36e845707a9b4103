{#- What makes a report a duplicate, and how two reports are compared. Models hold the joins. -#}

{#- Metres and days of the rules. Two reports lie near each other up to radius_m and within_days; a cluster spans
    at most span_days and diameter_m; a parent further than parent_m, or younger than its child by more than
    parent_days, is none; a report made again comes within again_days after the closing. -#}
{% macro duplicate_rules() %}
    {{ return({
        'radius_m': 40, 'within_days': 10,
        'diameter_m': 120, 'span_days': 30,
        'parent_m': 500, 'parent_days': 30,
        'again_days': 30,
    }) }}
{% endmacro %}

{#- Days from one report to another: between calendar dates where either is told as a day, so that a clock change
    between two midnights is no part of a day. -#}
{% macro report_lag_days(earlier, later) -%}
    case
        when {{ earlier }}.time_precision = 'day' or {{ later }}.time_precision = 'day'
            then cast({{ days_between(earlier ~ '.event_on', later ~ '.event_on') }} as double)
        else {{ seconds_between(earlier ~ '.event_at', later ~ '.event_at') }} / 86400.0
    end
{%- endmacro %}

{#- Days from the closing of a case to a report, as a date where either is told as a day. -#}
{% macro days_after_closing(case, later) -%}
    case
        when {{ later }}.time_precision = 'day' or {{ case }}.is_closed_to_the_day
            then cast({{ days_between('cast(' ~ case ~ '.closed_local as date)', later ~ '.event_on') }} as double)
        else {{ seconds_between(case ~ '.closed_at', later ~ '.event_at') }} / 86400.0
    end
{%- endmacro %}

{#- Whether a report was made after the closing of a case; not where the case is open or both are on one day that is all
    that is told. -#}
{% macro is_after_closing(case, later) -%}
    coalesce({{ days_after_closing(case, later) }} > 0, false)
{%- endmacro %}

{#- The square of the distance between two reports, square metres; null where either has no place. -#}
{% macro report_distance2(one, other) -%}
    (
        ({{ one }}.x_m - {{ other }}.x_m) * ({{ one }}.x_m - {{ other }}.x_m)
        + ({{ one }}.y_m - {{ other }}.y_m) * ({{ one }}.y_m - {{ other }}.y_m)
    )
{%- endmacro %}

{#- The order of reports: by time, and at one time by key, so that it is the same in every build. -#}
{% macro is_before(one, other) -%}
    (
        {{ one }}.event_at < {{ other }}.event_at
        or ({{ one }}.event_at = {{ other }}.event_at and {{ one }}.event_key < {{ other }}.event_key)
    )
{%- endmacro %}

{#- Number of a time's bucket of some days. -#}
{% macro time_bucket(at, days) -%}
    cast(floor({{ seconds_between("timestamp '1970-01-01 00:00:00'", at) }} / ({{ days }} * 86400.0)) as bigint)
{%- endmacro %}

{#- Whether two reports of one type can be about the same thing: where both tell a finer type it is the same, and where
    the type is about a property the address. -#}
{% macro is_about_the_same(one, other) -%}
    coalesce({{ one }}.event_subtype = {{ other }}.event_subtype, true)
    and coalesce({{ one }}.premises = {{ other }}.premises, true)
{%- endmacro %}

{#- Incremental strategy of pairs of reports: those of a changed key are replaced. -#}
{% macro get_incremental_replace_pairs_sql(arguments) %}
    delete from {{ arguments['target_relation'] }}
    {% if not builds_whole() %}
    where
        earlier_key in (select event_key from {{ ref('int_changed_keys') }})
        or later_key in (select event_key from {{ ref('int_changed_keys') }})
    {% endif %};

    {{ insert_all(arguments) }}
{% endmacro %}

{#- Pointers of reached_1 (event_key, case_key) followed for 64 steps, as the CTEs up to reached_64: each doubles how
    far. More of them in one model take the engine's planner too long. -#}
{% macro pointers_followed() -%}
{%- for steps in [1, 2, 4, 8, 16, 32] -%}
reached_{{ steps * 2 }} as (
    select one.event_key, coalesce(other.case_key, one.case_key) as case_key
    from reached_{{ steps }} as one
    left join reached_{{ steps }} as other on one.case_key = other.event_key
){{ ',' if not loop.last }}
{% endfor -%}
{%- endmacro %}
