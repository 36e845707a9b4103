{#- What every staging model of events does with raw text; what is special to a kind are its arguments.

    Five kinds go through one text, so a rule on times, keys or flags cannot differ between them. -#}

{#- The last moment at which a case that should end within some days is in time; a day told without a time of day
    is in time until its end. Days end on the city's clock: counted in hours, a target across a clock change would
    call the day after it timely in spring, and its last evening late in autumn. -#}
{% macro target_after(at, local, days, precision, time_zone, zones=none) -%}
    case when {{ precision }} = 'day'
        then {{ wall_to_utc(plus_days(local, days ~ ' + 1') ~ ' - interval 1 second', time_zone, zones) }}
        else {{ plus_days(at, days) }} end
{%- endmacro %}

{#- Stage one kind.

    Args:
        kind: The raw source and the value of `kind`.
        event_times: Columns that may give the event's time, the preferred one first.
        closing_time: The column that says when the case ended, if the kind has one.
        due_time: The column that says when it should have ended, if the kind has one.
        times: Further time columns.
        future_times: Which time columns may lie more than two years after the delivery.
        numbers, flags, texts: Further columns of the kind. -#}
{% macro staged_events(
    kind, event_times, closing_time=none, due_time=none, times=[], future_times=[], numbers=[], flags=[], texts=[]
) %}
{{- config(materialized='incremental', incremental_strategy='replace_batches') }}
{%- set texts_of_all = [
    'source_id', 'category', 'subcategory', 'code', 'status', 'agency', 'address', 'postal_code', 'parcel_id',
    'asset_id', 'source_areas', 'unit', 'attributes'
] -%}
{%- set all_times = event_times + ([closing_time] if closing_time and closing_time not in event_times else [])
    + ([due_time] if due_time else []) + times + ['updated_at'] -%}
{%- set zones = declared_time_zones() -%}
{%- set all_numbers = ['quantity'] + numbers -%}
{%- set plain = [
    'city', 'feed', 'kind', 'part', 'delivery_id', 'source_row', 'delivery_sha', 'delivered_at', 'content_hash', 'lon', 'lat',
    'x_m', 'y_m', 'h3_7', 'h3_9', 'h3_10', 'location_quality'
] -%}
with records as (
    select * from {{ source('raw', kind) }} where {{ is_to_be_staged(kind) }}
),

feeds as (
    select * from {{ ref('stg_feeds') }} where kind = '{{ kind }}'
),

categories as (
    select * from {{ ref('stg_source_categories') }} where kind = '{{ kind }}'
),

statuses as (
    select * from {{ ref('stg_source_statuses') }} where kind = '{{ kind }}'
),

trimmed as (
    select
        {%- for name in plain if name != 'kind' %}
        records.{{ name }},
        {%- endfor %}
        feeds.kind,
        feeds.time_zone,
        feeds.times,
        feeds.time_precision as declared_precision,
        feeds.target_days as feed_target_days,
        {%- for name in texts_of_all + texts %}
        {{ text_value('records.' ~ name) }} as {{ name }},
        {%- endfor %}
        {%- for name in all_times + all_numbers + flags %}
        {{ text_value('records.' ~ name) }} as {{ name }}_text{{ ',' if not loop.last }}
        {%- endfor %}
    from records
    inner join feeds on records.city = feeds.city and records.feed = feeds.feed
),

read_values as (
    select
        *,
        {%- for name in all_numbers %}
        {{ number_value(name ~ '_text') }} as {{ name }},
        {%- endfor %}
        {%- for name in flags %}
        {{ flag_value(name ~ '_text') }} as {{ name }}_flag,
        {%- endfor %}
        {%- for name in all_times %}
        {{ is_instant(name ~ '_text', 'times') }} as {{ name }}_is_instant,
        {{ read_wall_time(without_offset(name ~ '_text')) }} as {{ name }}_wall{{ ',' if not loop.last }}
        {%- endfor %}
    from trimmed
),

zoned as (
    select
        *,
        {%- for name in all_times %}
        {{ source_time_to_utc(name, 'times', 'time_zone', zones) }} as {{ name }}_told{{ ',' if not loop.last }}
        {%- endfor %}
    from read_values
),

plausible as (
    select
        *,
        {%- for name in all_times %}
        {{ plausible_time(name ~ '_told', 'delivered_at', 50 if name in future_times else 2) }} as {{ name }}
        {{- ',' if not loop.last }}
        {%- endfor %}
    from zoned
),

localised as (
    select
        *,
        {%- for name in all_times %}
        {{ source_time_to_local(name, name, 'times', 'time_zone', zones) }} as {{ name | replace('_at', '_local') }},
        {%- endfor %}
        {%- for name in event_times %}
        {{ is_repeated_hour(name, name, name ~ '_wall', 'times', 'time_zone', zones) }} as {{ name }}_is_ambiguous,
        {%- endfor %}
        coalesce({{ event_times | join(', ') }}) as event_at
    from plausible
),

timed as (
    select
        *,
        coalesce({{ event_times | map('replace', '_at', '_local') | join(', ') }}) as event_local,
        case
            {%- for name in event_times %}
            when {{ name }} is not null then {{ name }}_text
            {%- endfor %}
        end as event_text,
        case
            {%- for name in event_times %}
            when {{ name }} is not null then {{ name }}_is_ambiguous
            {%- endfor %}
            else false
        end as is_time_ambiguous
    from localised
),

mapped as (
    select
        timed.*,
        categories.event_type,
        categories.event_subtype,
        categories.mapping_method,
        coalesce(categories.is_private, false) as is_private,
        coalesce(categories.is_noise, false) as is_noise_category,
        coalesce(categories.target_days, timed.feed_target_days) as target_days,
        coalesce(statuses.canonical_status, 'unknown') as canonical_status,
        statuses.is_open as is_open_status,
        coalesce(statuses.is_duplicate, false){{ ' or coalesce(timed.is_duplicate_flag, false)' if 'is_duplicate' in flags }} as is_duplicate,
        case
            when timed.event_text not like '%:%' then 'day'
            else coalesce(timed.declared_precision, 'second')
        end as time_precision
    from timed
    left join categories
        on timed.city = categories.city
        and timed.feed = categories.feed
        and timed.category is not distinct from categories.category
        and timed.subcategory is not distinct from categories.subcategory
        and timed.code is not distinct from categories.code
    left join statuses
        on timed.city = statuses.city and timed.feed = statuses.feed and timed.status = statuses.source_status
)

{%- set dq = {} %}
{%- for name in all_times + all_numbers %}
{%- do dq.update({'bad_' ~ name: name ~ '_text is not null and ' ~ name ~ ' is null'}) %}
{%- endfor %}
{#- No quantity, fee or count of the contract can be below 0; -9999 stands for a sensor that is broken. #}
{%- for name in all_numbers %}
{%- do dq.update({'negative_' ~ name: name ~ ' < 0'}) %}
{%- endfor %}
{%- for name in flags %}
{%- do dq.update({'bad_' ~ name: name ~ '_text is not null and ' ~ name ~ '_flag is null'}) %}
{%- endfor %}
{%- if closing_time %}
{%- set closing_local = closing_time | replace('_at', '_local') %}
{%- do dq.update({
    'closed_before_created': "case when time_precision = 'day' or " ~ closing_time ~ "_text not like '%:%'"
        ~ " or " ~ closing_local ~ " = date_trunc('day', " ~ closing_local ~ ")"
        ~ " then cast(" ~ closing_local ~ " as date) < cast(event_local as date) else "
        ~ closing_time ~ " < event_at end",
    'closed_without_date': 'not is_open_status and ' ~ closing_time ~ ' is null',
    'closing_date_on_open': 'is_open_status and ' ~ closing_time ~ ' is not null',
}) %}
{%- endif %}
{%- do dq.update({
    'updated_before_created': 'cast(updated_local as date) < cast(event_local as date)',
    'unmapped_category': "mapping_method = 'none'",
    'unmapped_status': "status is not null and canonical_status = 'unknown'",
}) %}

select
    case when source_id is not null then {{ event_key('city', 'feed', 'source_id') }} end as event_key,
    {%- for name in plain %}
    {{ name }},
    {%- endfor %}
    source_id,
    case
        when source_id is null then 'no_key'
        when event_at is not null then null
        when coalesce({% for name in event_times %}{{ name }}_told, {% endfor %}null) is not null
            then 'event_time_out_of_range'
        when coalesce({% for name in event_times %}{{ name }}_text, {% endfor %}null) is not null
            then 'event_time_unreadable'
        else 'no_event_time'
    end as quarantine_reason,
    coalesce({% for name in event_times %}{{ name }}_text, {% endfor %}null) as told_event_time,
    event_type,
    event_subtype,
    mapping_method,
    is_private,
    is_noise_category,
    category,
    subcategory,
    code,
    canonical_status as status,
    status as source_status,
    is_open_status,
    is_duplicate,
    agency,
    event_at,
    event_local,
    time_precision,
    is_time_ambiguous,
    {%- if not closing_time %}
    cast(null as timestamp) as closed_at,
    cast(null as timestamp) as closed_local,
    {%- elif closing_time != 'closed_at' %}
    {{ closing_time }} as closed_at,
    {{ closing_time | replace('_at', '_local') }} as closed_local,
    {%- endif %}
    {%- if not due_time %}
    cast(null as timestamp) as due_at,
    cast(null as timestamp) as due_local,
    {%- elif due_time != 'due_at' %}
    {{ due_time }} as due_at,
    {{ due_time | replace('_at', '_local') }} as due_local,
    {%- endif %}
    {%- for name in all_times %}
    {{ name }},
    {{ name | replace('_at', '_local') }},
    {%- endfor %}
    {%- for name in all_numbers %}
    {{ name }},
    {%- endfor %}
    {%- for name in flags if name != 'is_duplicate' %}
    {{ name }}_flag as {{ name }},
    {%- endfor %}
    {%- for name in texts %}
    {{ name }},
    {%- endfor %}
    target_days,
    {%- if due_time %}
    coalesce(
        case
            when {{ due_time }}_text not like '%:%' or declared_precision = 'day'
                then {{ wall_to_utc(due_time | replace('_at', '_local') ~ ' + interval 1 day - interval 1 second', 'time_zone', zones) }}
            else {{ due_time }}
        end,
        {{ target_after('event_at', 'event_local', 'target_days', 'time_precision', 'time_zone', zones) }}
    ) as target_at,
    {%- else %}
    {{ target_after('event_at', 'event_local', 'target_days', 'time_precision', 'time_zone', zones) }} as target_at,
    {%- endif %}
    address,
    postal_code,
    parcel_id,
    asset_id,
    source_areas,
    unit,
    attributes,
    {{ joined_flags(dq, ["case when location_quality <> 'ok' then 'location_' || location_quality end"]) }} as dq_flags
from mapped
{% endmacro %}
