{{ config(tags=['verdict']) }}
{{ outlook_ranks('rodent_outlook') }}
