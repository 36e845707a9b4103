{#- What joins a complaint to a site of work, and a site to what lies near it. Models hold the joins, the expectation of
    a site and its candidates are assets/correlate/site_excess.py. -#}

{#- Metres. A complaint belongs to a site at most site_m away, a variance to a site at most variance_m away (permits of
    one job lie on one point), and what is near a site or a sensitive place lies at most near_m (two blocks) away. -#}
{% macro noise_rules() %}
    {{ return({'site_m': 75, 'variance_m': 25, 'near_m': 200}) }}
{% endmacro %}

{#- A parcel as told; sources write zeros for "none", and every such row would be one place. -#}
{% macro told_parcel(parcel_id) -%}
    case when replace({{ parcel_id }}, '0', '') <> '' then {{ parcel_id }} end
{%- endmacro %}

{#- Pairs of rows of two relations of one city within some metres, with the square of their distance. Both have city,
    x_m and y_m; `keep` are the columns taken from each, as SQL over `searching` and `found`. -#}
{% macro near_pairs(searching, found, reach_m, keep) -%}
    select
        {{ keep }},
        {{ squared_distance('searching', 'found') }} as distance2
    from (
        select
            {{ searching }}.*,
            {{ bucket('x_m - ' ~ reach_m, 2 * reach_m) }} + step_x.step as x_bucket,
            {{ bucket('y_m - ' ~ reach_m, 2 * reach_m) }} + step_y.step as y_bucket
        from {{ searching }}
        {{ neighbour_steps(with_time=false) }}
        where x_m is not null and y_m is not null
    ) as searching
    inner join (
        select
            *,
            {{ bucket('x_m', 2 * reach_m) }} as x_bucket,
            {{ bucket('y_m', 2 * reach_m) }} as y_bucket
        from {{ found }}
        where x_m is not null and y_m is not null
    ) as found
        on searching.city = found.city
        and searching.x_bucket = found.x_bucket
        and searching.y_bucket = found.y_bucket
    where {{ squared_distance('searching', 'found') }} <= {{ reach_m * reach_m }}
{%- endmacro %}

{#- Days of each of the two periods that mart_sensitive_site_exposure compares, and how many of them records must cover
    for a count to be told. -#}
{% macro sensitive_site_days() %}{{ return(365) }}{% endmacro %}
{% macro sensitive_site_days_needed() %}{{ return(330) }}{% endmacro %}
