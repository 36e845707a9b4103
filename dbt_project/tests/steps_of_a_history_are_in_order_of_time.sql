-- Within one origin no step is dated before one with a smaller seq; opening and closing columns may be told so.
with steps as (
    select
        event_key,
        origin,
        seq,
        status_at,
        max(status_at) over (
            partition by event_key, origin order by seq rows between unbounded preceding and 1 preceding
        ) as latest_before_at
    from {{ ref('fct_status_history') }}
    where origin <> 'source_column'
)

select * from steps where status_at < latest_before_at
