{#- Kaplan-Meier durations: the first one at which at most a stated share is left. A span that has not ended counts as
    at risk for as long as it was seen, so slow cases that are still open are not left out of the figure.

    Args:
        spans: Relation with one row per span.
        groups: Columns that each estimate is for.
        duration: Column, 0 or more; a row without one is in no estimate.
        is_ended: Column that says whether the span ended at that duration.
        shares_left: Name of each figure to the share that may be left; null where the group does not come that far.

    The result has the groups, the figures, and n_ended and n_spans. -#}
{% macro kaplan_meier(spans, groups, duration, is_ended, shares_left) -%}
{%- set group = groups | join(', ') -%}
select
    {{ group }},
    {%- for name, share in shares_left.items() %}
    -- The margin keeps a share that is exactly met from being missed by the last bit of exp(ln(x)).
    min({{ duration }}) filter (where share_left <= {{ share }} + 1e-9) as {{ name }},
    {%- endfor %}
    cast(sum(n_ended) as bigint) as n_ended,
    cast(sum(n_spans) as bigint) as n_spans
from (
    select
        *,
        -- The product of (1 - ended / at risk), as a sum of logarithms; -1000 stands for the logarithm of 0.
        exp(
            sum(case when n_ended = n_at_risk then -1000 else ln(1.0 - n_ended / cast(n_at_risk as double)) end)
                over (partition by {{ group }} order by {{ duration }})
        ) as share_left
    from (
        select *, sum(n_spans) over (partition by {{ group }} order by {{ duration }} desc) as n_at_risk
        from (
            select
                {{ group }},
                {{ duration }},
                count(*) filter (where {{ is_ended }}) as n_ended,
                count(*) as n_spans
            from {{ spans }}
            where {{ duration }} is not null
            group by {{ group }}, {{ duration }}
        ) as durations
    ) as at_risk
) as survival
group by {{ group }}
{%- endmacro %}
