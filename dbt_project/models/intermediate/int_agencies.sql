with names as (
    select * from {{ ref('stg_agency_names') }}
),

told as (
    {% for staging in event_stagings().values() %}
    select distinct city, agency from {{ ref(staging) }}
    where quarantine_reason is null
    union
    {% endfor %}
    -- A name may stand in a history of states only.
    select city, {{ text_value('source_agency') }} as agency from {{ source('declared', 'agencies') }}
)

select
    told.city,
    told.agency,
    names.agency as agency_canonical
from told
left join names on told.city = names.city and {{ normalised_text('told.agency') }} = names.agency_key
where told.agency is not null
