{%- set parts = ['freshness', 'completeness', 'location', 'mapping', 'quarantine', 'missing', 'exclusion'] -%}
{%- set told_columns = ['category', 'source_status', 'agency', 'address'] -%}
with freshness as (
    select * from {{ ref('feed_freshness') }}
),

verdicts as (
    select * from {{ ref('verdicts') }}
),

grades as (
    select * from {{ ref('grades') }}
),

reconciliation as (
    select * from {{ ref('reconciliation') }}
),

events as (
    select
        city,
        feed,
        cast(count(*) as double) as n_events,
        {%- for column in told_columns %}
        count({{ column }}) as n_{{ column }},
        {%- endfor %}
        count(*) filter (where location_quality = 'ok') as n_located,
        count(*) filter (where location_quality <> 'missing') as n_with_place,
        count(*) filter (
            where dq_flags like '%unmapped_category%' or dq_flags like '%unmapped_status%'
        ) as n_unmapped,
        count(*) filter (where missing_since_at is not null) as n_missing,
        count(*) filter (where is_excluded) as n_excluded
    from {{ ref('fct_events') }}
    group by city, feed
),

scored as (
    select
        freshness.city,
        freshness.feed,
        freshness.kind,
        least(
            verdicts.freshness_score,
            case when freshness.is_stale then late.freshness_score else 1.0 end
        ) as freshness_score,
        (
            {%- for column in told_columns %}
            events.n_{{ column }}{{ ' +' if not loop.last }}
            {%- endfor %}
        ) / events.n_events / nullif(
            {%- for column in told_columns %}
            case when events.n_{{ column }} > 0 then 1 else 0 end{{ ' +' if not loop.last }}
            {%- endfor %}, 0
        ) as completeness_score,
        case when events.n_with_place > 0 then events.n_located / events.n_events end as location_score,
        1 - events.n_unmapped / events.n_events as mapping_score,
        1 - freshness.rows_quarantined
            / nullif(cast(freshness.rows_raw + reconciliation.rows_quarantined_by_ingest as double), 0)
            as quarantine_score,
        1 - events.n_missing / events.n_events as missing_score,
        1 - events.n_excluded / events.n_events as exclusion_score
    from freshness
    inner join verdicts on freshness.verdict = verdicts.verdict
    inner join verdicts as late on late.verdict = 'late'
    inner join reconciliation
        on freshness.city = reconciliation.city and freshness.feed = reconciliation.feed
    left join events on freshness.city = events.city and freshness.feed = events.feed
),

each_part as (
    {% for part in parts %}
    select city, feed, '{{ part }}' as part_name, {{ part }}_score as score from scored
    where {{ part }}_score is not null
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

ranked as (
    select
        *,
        row_number() over (partition by city, feed order by score, part_name) as weakness
    from each_part
),

graded as (
    select
        ranked.city,
        ranked.feed,
        ranked.part_name,
        ranked.score,
        grades.grade,
        row_number() over (partition by ranked.city, ranked.feed order by grades.min_score desc) as nearness
    from ranked
    inner join grades on ranked.score >= grades.min_score
    where ranked.weakness = 1
)

select
    scored.city,
    scored.feed,
    scored.kind,
    graded.grade,
    case when graded.score < 1 then graded.part_name end as weakest_part,
    graded.score as weakest_score,
    {%- for part in parts %}
    scored.{{ part }}_score{{ ',' if not loop.last }}
    {%- endfor %}
from scored
inner join graded on scored.city = graded.city and scored.feed = graded.feed
where graded.nearness = 1
