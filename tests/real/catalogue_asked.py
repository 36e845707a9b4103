"""Which questions of the catalogue a city owes an answer, found without the models; asserts nothing."""

from collections.abc import Callable
from pathlib import Path

CATALOGUE = Path(__file__).parents[2] / "dbt_project" / "seeds" / "correlation_questions.csv"
BANDS = (1, 2, 3)


def asked(rows: Callable[[str], list[tuple]]) -> set[tuple[str, int]]:
    """Return question and ring of every answer that a city owes: it has located cases of both types.

    Args:
        rows: Runs SQL on the published warehouse of one city.
    """
    found = rows(f"""
        with cases as (
            select event_type, event_subtype from core.fct_events
            where is_canonical and not is_noise and not is_excluded and x_m is not null
        )
        select question_id from read_csv('{CATALOGUE}', all_varchar = true) as questions
        where exists (
                select 1 from cases where cases.event_type = questions.signal_type
                and (questions.signal_subtype is null or questions.signal_subtype = cases.event_subtype)
            )
            and exists (select 1 from cases where cases.event_type = questions.outcome_type)
    """)
    return {(question, band) for (question,) in found for band in BANDS}


def answers(rows: Callable[[str], list[tuple]]) -> dict[tuple[str, int], dict]:
    """Return the rows of mart_correlations by question and ring, those of a question in order.

    Args:
        rows: Runs SQL on the published warehouse of one city.
    """
    columns = (
        "verdict",
        "is_negative_control",
        "n_anchor",
        "d0",
        "d1",
        "rr",
        "ci_low",
        "ci_high",
        "p_value",
        "minimal_detectable_rr",
        "n_negative_controls",
        "n_negative_controls_positive",
    )
    return {
        (question, band): dict(zip(columns, told, strict=True))
        for question, band, *told in rows(
            f"select question_id, band, {', '.join(columns)} from correlation.mart_correlations order by 1, 2"
        )
    }


def show(found: dict[tuple[str, int], dict]) -> None:
    """Print answers as a table, each ring a line."""
    print(f"\n{'question':<32}ring  signals  before   after  ratio [95 %]         verdict")
    for (question, band), row in found.items():
        ratio = "none published"
        if row["rr"] is not None:
            ratio = f"{row['rr']:.2f} [{row['ci_low']:.2f}, {row['ci_high']:.2f}]"
        control = "  (control)" if row["is_negative_control"] else ""
        counts = f"{row['n_anchor']:9}{row['d0']:8}{row['d1']:8}"
        print(f"{question:<32}{band:4}{counts}  {ratio:<20} {row['verdict']}{control}")
