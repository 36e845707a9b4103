{{ config(tags=['verdict']) }}

select
    '{{ env_var("CITYSIGNAL_GENERATION", "none") }}' as generation,
    nullif('{{ env_var("CITYSIGNAL_RUN_ID", "") }}', '') as run_id,
    try_cast(nullif('{{ env_var("CITYSIGNAL_BUILT_AT", "") }}', '') as timestamp) as built_at
