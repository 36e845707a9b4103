-- What a delivery's rows mean depends on the mapping it was read with and on what its feed declares: with another one
-- the same rows are new again. What a delivery missed is of it too.
with delivered as (
    {% for kind in landed_kinds() %}
    {{ raw_files_of(kind) }}
    union all
    {% endfor %}
    {% for kind in event_stagings() %}
    select distinct
        '{{ kind }}' as kind,
        'absences' as file_set,
        city,
        feed,
        part,
        delivery_id,
        null as mapping
    from {{ source('absences', 'absent_' ~ kind) }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

said as (
    {% for name in ['feeds', 'parts', 'categories', 'statuses', 'exclusions'] %}
    select city, feed, '{{ name }}' as list, {{ row_text(name) }} as row_text from {{ source('declared', name) }} as {{ name }}
    union all
    {% endfor %}
    {% for name in ['cities', 'agencies'] %}
    select feeds.city, feeds.feed, '{{ name }}' as list, {{ row_text(name) }} as row_text
    from {{ source('declared', name) }} as {{ name }}
    inner join {{ source('declared', 'feeds') }} as feeds on {{ name }}.city = feeds.city
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

declared as (
    select city, feed, md5(string_agg(list || row_text, chr(31) order by list, row_text)) as declaration
    from said
    group by city, feed
),

batches as (
    select
        delivered.kind,
        delivered.file_set,
        delivered.city,
        delivered.feed,
        delivered.part,
        delivered.delivery_id,
        md5(concat_ws(chr(31), max(delivered.mapping), max(declared.declaration))) as fingerprint
    from delivered
    left join declared on delivered.city = declared.city and delivered.feed = declared.feed
    group by delivered.kind, delivered.file_set, delivered.city, delivered.feed, delivered.part, delivered.delivery_id
),

{% set loaded = loaded_batches() if execute %}
loaded as (
    {% if loaded %}
    select kind, file_set, city, feed, part, delivery_id, fingerprint from {{ loaded }}
    {% else %}
    select kind, file_set, city, feed, part, delivery_id, fingerprint from batches where false
    {% endif %}
)

select
    coalesce(batches.kind, loaded.kind) as kind,
    coalesce(batches.file_set, loaded.file_set) as file_set,
    coalesce(batches.city, loaded.city) as city,
    coalesce(batches.feed, loaded.feed) as feed,
    coalesce(batches.part, loaded.part) as part,
    coalesce(batches.delivery_id, loaded.delivery_id) as delivery_id,
    coalesce(batches.fingerprint, loaded.fingerprint) as fingerprint,
    batches.kind is not null and batches.fingerprint is distinct from loaded.fingerprint as is_new,
    batches.kind is null as is_gone
from batches
full outer join loaded
    on batches.kind = loaded.kind
    and batches.file_set = loaded.file_set
    and batches.city = loaded.city
    and batches.feed = loaded.feed
    and batches.part = loaded.part
    and batches.delivery_id = loaded.delivery_id
