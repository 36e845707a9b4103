"""Whether every declared question got its answer where a city has the evidence; the answer is the card's."""

from collections.abc import Collection
from dataclasses import dataclass

import duckdb

# A cluster of reports may form nowhere, so reports alone do not promise an answer to a question about one.
PROMISED = """
    select city, question_id from correlation.mart_correlation_contrasts
    where n_signal_covered > 0 and not list_contains($clusters, question_id)
"""
UNANSWERED = f"""
    select promised.question_id, promised.city || ': no row in mart_correlations'
    from (
        {PROMISED}
        union
        select city, question_id from correlation.mart_correlation_blocks
        where band = 1 and variant = 'primary'
    ) as promised
    anti join (select city, question_id from correlation.mart_correlations where band = 1) as answers
        using (city, question_id)
    union all
    select promised.question_id, promised.city || ': no lag curve in mart_lag_curves'
    from (
        {PROMISED}
        union
        select city, question_id from intermediate.int_lag_blocks where unit = 'week'
    ) as promised
    inner join correlation.mart_correlations as answers using (city, question_id)
    anti join (select city, question_id from correlation.mart_lag_curves where unit = 'week') as curves
        using (city, question_id)
    where answers.band = 1 and answers.verdict <> 'insufficient'
    order by all
"""  # noqa: S608
FALSE_ALARMS = """
    select
        question_id,
        city || ': supported between ' || from_m::bigint || ' and ' || to_m::bigint
            || ' m, although no relation can exist'
    from correlation.mart_correlations
    where is_negative_control and verdict = 'supported'
    order by all
"""
ANSWERED = "select question_id, count(*) from correlation.mart_correlations where band = 1 group by 1"
ASKED = "select question_id from intermediate.int_correlation_questions"


@dataclass(frozen=True)
class AnswerState:
    """How far a question is answered.

    Attributes:
        n_cities: Cities with an answer.
        missing: What is lacking where, one line each.
        false_alarms: Where a negative control is supported, one line each.
    """

    n_cities: int
    missing: tuple[str, ...]
    false_alarms: tuple[str, ...]


def answer_states(
    connection: duckdb.DuckDBPyConnection, questions: Collection[str], clusters: Collection[str]
) -> dict[str, AnswerState]:
    """Return how far each question is answered.

    Args:
        connection: The build warehouse, after inference.
        questions: Ids of the questions asked for.
        clusters: Those whose signal is a cluster of reports.
    """
    asked = {row[0] for row in connection.execute(ASKED).fetchall()}
    n_cities = dict(connection.execute(ANSWERED).fetchall())
    missing = connection.execute(UNANSWERED, {"clusters": sorted(clusters)}).fetchall()
    alarms = connection.execute(FALSE_ALARMS).fetchall()
    return {
        question: AnswerState(
            n_cities=n_cities.get(question, 0),
            missing=tuple(said for of, said in missing if of == question)
            + (() if question in asked else ("the warehouse does not know the question: build it",)),
            false_alarms=tuple(said for of, said in alarms if of == question),
        )
        for question in questions
    }
