{#- Where a point lies, in plain SQL on integer cells and metres: the other half of assets/ingest/grid.py, which
    makes the cells, edges and reference points. Reading and choosing tables belongs to the models. -#}

{#- Metres on the lattice of 2^-11 m that corners of areas lie on; it makes every sign below exact. -#}
{% macro snapped(metres) -%}
    (floor({{ metres }} * 2048 + 0.5) / 2048)
{%- endmacro %}

{#- The key of the 100 m cell of a point, as cell_keys in grid.py makes it. -#}
{% macro grid_cell(x, y) -%}
    (cast(floor({{ x }} / 100) as bigint) * 4000000 + cast(floor({{ y }} / 100) as bigint))
{%- endmacro %}

{#- Over 0 where a point is left of (or above) an edge, 0 on it; edges run upward, level ones to the right. -#}
{% macro side_of_edge(edge, x, y) -%}
    (({{ edge }}.x2 - {{ edge }}.x1) * ({{ y }} - {{ edge }}.y1) - ({{ edge }}.y2 - {{ edge }}.y1) * ({{ x }} - {{ edge }}.x1))
{%- endmacro %}

{#- Whether an edge is crossed once (true) or never or twice (false) on the way from a point to the reference point:
    first level to the reference's x, then straight up or down. Edges hold their lower (or left) end and not the other,
    so a corner on the way counts once; the bend is tested by the same expression for both legs, so it cancels. A
    slanting way would have corners and edges that it only grazes. -#}
{% macro crosses_edge(edge, x, y, ref_x, ref_y) -%}
    (
        (
            ({{ edge }}.y1 > {{ y }}) <> ({{ edge }}.y2 > {{ y }})
            and ({{ side_of_edge(edge, x, y) }} > 0) <> ({{ side_of_edge(edge, ref_x, y) }} >= 0)
        ) <> (
            ({{ edge }}.x1 > {{ ref_x }}) <> ({{ edge }}.x2 > {{ ref_x }})
            and ({{ side_of_edge(edge, ref_x, y) }} >= 0) <> ({{ side_of_edge(edge, ref_x, ref_y) }} > 0)
        )
    )
{%- endmacro %}

{#- How far along a segment, 0 to 1, its point nearest to x, y lies; 0 for a segment without length. -#}
{% macro nearest_along(segment, x, y) -%}
    least(greatest(
        (({{ x }} - {{ segment }}.x1) * {{ segment }}.dx + ({{ y }} - {{ segment }}.y1) * {{ segment }}.dy)
        * {{ segment }}.inv_len2, 0
    ), 1)
{%- endmacro %}

{#- The square of the distance to the point that lies `along` a segment, square metres. -#}
{% macro distance2_along(segment, x, y, along) -%}
    (
        ({{ x }} - {{ segment }}.x1 - {{ along }} * {{ segment }}.dx) * ({{ x }} - {{ segment }}.x1 - {{ along }} * {{ segment }}.dx)
        + ({{ y }} - {{ segment }}.y1 - {{ along }} * {{ segment }}.dy) * ({{ y }} - {{ segment }}.y1 - {{ along }} * {{ segment }}.dy)
    )
{%- endmacro %}

{#- Whether a boundary (or an item) holds on a day: from its first day until the day after its last. -#}
{% macro holds_on(place, day) -%}
    ({{ place }}.valid_from is null or {{ day }} >= {{ place }}.valid_from)
    and ({{ place }}.valid_to is null or {{ day }} < {{ place }}.valid_to)
{%- endmacro %}

{#- Whether there is a day on which two boundaries hold. -#}
{% macro hold_on_one_day(one, other) -%}
    ({{ one }}.valid_from is null or {{ other }}.valid_to is null or {{ one }}.valid_from < {{ other }}.valid_to)
    and ({{ other }}.valid_from is null or {{ one }}.valid_to is null or {{ other }}.valid_from < {{ one }}.valid_to)
{%- endmacro %}
