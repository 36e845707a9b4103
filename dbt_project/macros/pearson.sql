{#- Pearson's correlation of two columns of whole numbers over the rows of a group, -1 to 1; null where fewer than three
    rows or a column that does not vary tell nothing. The sums are exact, so the order of rows changes nothing. -#}
{% macro pearson_r(x, y) -%}
    {%- set x_spread = 'count(*) * sum(' ~ x ~ ' * ' ~ x ~ ') - sum(' ~ x ~ ') * sum(' ~ x ~ ')' -%}
    {%- set y_spread = 'count(*) * sum(' ~ y ~ ' * ' ~ y ~ ') - sum(' ~ y ~ ') * sum(' ~ y ~ ')' -%}
    case
        when count(*) >= 3 and {{ x_spread }} > 0 and {{ y_spread }} > 0 then
            greatest(-1.0, least(1.0,
                cast(count(*) * sum({{ x }} * {{ y }}) - sum({{ x }}) * sum({{ y }}) as double)
                / sqrt(cast({{ x_spread }} as double) * cast({{ y_spread }} as double))))
    end
{%- endmacro %}
