{# Constants and keys of the outlooks; models hold the joins. #}

{# A record so near and so soon after another of its type is of the same job. #}
{% macro same_job_m() %}{{ return(20) }}{% endmacro %}
{% macro same_job_days() %}{{ return(7) }}{% endmacro %}

{# Days that count as the last year, and days within which a failure is recent. #}
{% macro outlook_year_days() %}{{ return(365) }}{% endmacro %}
{% macro outlook_recent_days() %}{{ return(28) }}{% endmacro %}

{# Days beyond the forecast time that features may look: none. The twin of the leakage test sets it to show what a look
   into the horizon does. #}
{% macro outlook_sight_days() %}{{ return(var('outlook_sight_days', 0)) }}{% endmacro %}

{# H3 parent by bit arithmetic, as h3_6_of in correlation.sql. #}
{% macro h3_9_of(h3_10) -%}
    (({{ h3_10 }} - 4503599627370496) | 229376)
{%- endmacro %}

{# What lies in one neighbourhood: of cells the H3 cell of resolution 9 (0.1 km²), of items the square of 250 m. #}
{% macro outlook_neighbourhood(asset_type, h3_10, x_m, y_m) -%}
    case
        when {{ asset_type }} is null then {{ h3_9_of(h3_10) }}
        else {{ bucket(x_m, 250) }} * 1000000 + {{ bucket(y_m, 250) }}
    end
{%- endmacro %}

{# First delivery of each part that held a record: history loaded in bulk, whose records were known when they happened. #}
{% macro first_deliveries() -%}
    select city, feed, part, min(observed_at) as first_delivery_at
    from {{ ref('int_versions_numbered') }}
    group by city, feed, part
{%- endmacro %}

{# City date, as a day number, on which a delivery made something known. #}
{% macro arrival_day(observed_at, time_zone) -%}
    {{ day_number('cast(' ~ utc_to_wall(observed_at, time_zone) ~ ' as date)') }}
{%- endmacro %}

{# The ranked units of one outlook with what names them, as its mart shows them. #}
{% macro outlook_ranks(outlook) -%}
    select
        ranks.city,
        ranks.origin_on,
        ranks.horizon_days,
        ranks.rank,
        case when units.asset_type is null then 'cell' else 'asset' end as unit_type,
        ranks.unit_key,
        case when units.asset_type is not null then units.unit_key end as asset_key,
        units.asset_id,
        units.h3_10,
        ranks.method,
        ranks.score,
        ranks.expected_failures,
        ranks.model_expected_failures,
        ranks.failures_365d,
        ranks.failures_earlier,
        ranks.contributing_features,
        ranks.reason
    from {{ source('outlooks', 'ranks') }} as ranks
    inner join {{ ref('int_outlook_units') }} as units
        on ranks.city = units.city
        and ranks.outlook = units.outlook
        and ranks.unit_key = units.unit_key
    where ranks.outlook = '{{ outlook }}'
{%- endmacro %}
