{{ config(tags=['verdict']) }}
{{ outlook_ranks('main_failure_risk') }}
