"""The page that tells the on-time figures apart, written from the definitions of the metrics and columns.

`python -m assets.publish.on_time_page` writes it. The warehouse is not needed: the worked example is the dbt
unit test of the metric book, whose figures were computed by hand and hold for the mart.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import yaml

PAGE = Path(__file__).parents[2] / "docs" / "which_on_time_figure.md"
DEFINITIONS = Path(__file__).parents[2] / "dbt_project" / "models" / "operations"
EXAMPLE = "five_on_time_figures_of_one_cohort"
#: Two types, one large and good, one small and bad: closed by their target, closed with a target.
UNEVEN = {"potholes": (90, 100), "tree emergencies": (1, 10)}


class DefinitionError(Exception):
    """A definition that the page cannot be written from; the message names it."""


@dataclass(frozen=True)
class Figure:
    """One metric that is a quotient.

    Attributes:
        name: Its name, which is also the column's of the mart.
        label: Its name in words.
        description: What it is.
        question: What it answers.
        hides: What it does not show.
        numerator: Measure above the line.
        denominator: Measure below the line.
    """

    name: str
    label: str
    description: str
    question: str
    hides: str
    numerator: str
    denominator: str


@dataclass(frozen=True)
class Definitions:
    """What the project says about the metric book.

    Attributes:
        figures: The quotients, in the order of their declaration.
        measures: What each measure counts, by name.
        expressions: The SQL over columns of the mart that each measure sums up, by name.
        columns: Descriptions of the mart's columns.
        cases: The cases of the worked example, one row each.
        expected: The mart's row of the month of the worked example, by column.
    """

    figures: tuple[Figure, ...]
    measures: Mapping[str, str]
    expressions: Mapping[str, str]
    columns: Mapping[str, str]
    cases: tuple[Mapping[str, Any], ...]
    expected: Mapping[str, Any]


def read_definitions(folder: Path = DEFINITIONS) -> Definitions:
    """Read the definitions of the metric book.

    Args:
        folder: Where `mart_metric_book.yml` and `_metric_book__metrics.yml` lie.

    Raises:
        DefinitionError: A figure does not say what it answers and hides, or its value in the example is not
            what its formula gives.
    """
    mart = yaml.safe_load((folder / "mart_metric_book.yml").read_text(encoding="utf-8"))
    metrics = yaml.safe_load((folder / "_metric_book__metrics.yml").read_text(encoding="utf-8"))
    measures = metrics["semantic_models"][0]["measures"]
    example = next(test for test in mart["unit_tests"] if test["name"] == EXAMPLE)
    with duckdb.connect() as con:
        cases = con.execute(example["given"][0]["rows"]).to_arrow_table().to_pylist()
    definitions = Definitions(
        figures=tuple(read_figure(metric) for metric in metrics["metrics"]),
        measures={measure["name"]: measure["description"] for measure in measures},
        expressions={measure["name"]: measure.get("expr", measure["name"]) for measure in measures},
        columns={column["name"]: column["description"] for column in mart["models"][0]["columns"]},
        cases=tuple(cases),
        expected=example["expect"]["rows"][0],
    )
    for figure in definitions.figures:
        above, below = quotient(definitions, figure)
        if abs(above / below - definitions.expected[figure.name]) > 1e-12:
            raise DefinitionError(
                f"{figure.name}: the metric gives {above:g}/{below:g}, the unit test {EXAMPLE} expects "
                f"{definitions.expected[figure.name]}"
            )
    return definitions


def read_figure(metric: Mapping[str, Any]) -> Figure:
    """Return a metric as the page shows it.

    Raises:
        DefinitionError: It is no quotient, or does not say what it answers and hides.
    """
    told = metric.get("config", {}).get("meta", {})
    if metric["type"] != "ratio" or not {"question", "hides"} <= told.keys():
        raise DefinitionError(f"{metric['name']}: must be a ratio whose config.meta has question and hides")
    return Figure(
        name=metric["name"],
        label=metric["label"],
        description=metric["description"],
        question=told["question"],
        hides=told["hides"],
        numerator=metric["type_params"]["numerator"],
        denominator=metric["type_params"]["denominator"],
    )


def quotient(definitions: Definitions, figure: Figure) -> tuple[float, float]:
    """Return what stands above and below the line in the example's month, by the measures' expressions."""
    counts = {name: value for name, value in definitions.expected.items() if isinstance(value, int)}
    row = ", ".join(f"{value} as {name}" for name, value in counts.items())
    sides = ", ".join(definitions.expressions[name] for name in (figure.numerator, figure.denominator))
    with duckdb.connect() as con:
        above, below = con.execute(f"select {sides} from (select {row})").fetchall()[0]  # noqa: S608
    return float(above), float(below)


def render(definitions: Definitions) -> str:
    """Return the page as Markdown."""
    blocks = [
        *introduction(),
        *overview(definitions),
        *example(definitions),
        *sections(definitions),
        *addition(),
        *durations(definitions),
        *queries(),
    ]
    return "\n\n".join(blocks) + "\n"


def introduction() -> Iterator[str]:
    """Yield what the page is about."""
    yield "# Which on-time figure is this?"
    yield (
        "<!-- Written by `python -m assets.publish.on_time_page` from the metrics and columns of the metric "
        "book; change those. -->"
    )
    yield (
        "Two reports can show two on-time figures for the same month and both be right: they count other "
        "cases. `operations.mart_metric_book` therefore has each figure under a name of its own, all from "
        "the same cases as of the same moment, `as_of_at`. Quote the name with the number."
    )


def overview(definitions: Definitions) -> Iterator[str]:
    """Yield the table of questions."""
    yield "## Which figure answers which question"
    yield table(
        ["Question", "Figure", "What it does not show"],
        [[figure.question, f"`{figure.name}`", figure.hides] for figure in definitions.figures],
    )


def example(definitions: Definitions) -> Iterator[str]:
    """Yield the worked example: its cases, and each figure with its counts."""
    month = definitions.expected["month_on"]
    as_of = definitions.cases[0]["as_of_at"]
    yield "## One month, counted by each of them"
    yield (
        f"All potholes opened in {month:%B %Y}, and two opened before and closed in it, as of "
        f"{as_of:%d %B, %H:%M}. The target is seven days. This is a test of the mart: dbt computes these "
        "values from these cases."
    )
    yield table(
        ["Case", "Opened", "Target", "Ended", "By its target?"],
        [
            [case["event_key"], day(case["event_local"]), day(case["due_at"]), ended(case), verdict(case)]
            for case in definitions.cases
        ],
    )
    rows = []
    for figure in definitions.figures:
        above, below = quotient(definitions, figure)
        value = definitions.expected[figure.name]
        shown = f"{value:.1%}".replace("%", " %") if figure.name.endswith("_share") else f"{value:.1f} days"
        rows.append([f"`{figure.name}`", f"{above:g} / {below:g}", f"**{shown}**"])
    yield table(["Figure", "Counted", "Value"], rows)
    told = definitions.expected
    yield (
        f"Days to close, of the closed cases alone: the median is "
        f"{days(told['closed_only_median_days_to_close'])}, and 90 % took at most "
        f"{days(told['closed_only_p90_days_to_close'])}. With the open cases in it (Kaplan-Meier) the median "
        f"is {days(told['km_median_days_to_close'])}, and by when 90 % are closed is "
        f"{days(told['km_p90_days_to_close'])}."
    )


def sections(definitions: Definitions) -> Iterator[str]:
    """Yield one section for each figure: what it is, its formula, and what the mart says of its column."""
    yield "## The figures one by one"
    for figure in definitions.figures:
        yield f"### `{figure.name}`: {figure.label.lower()}"
        yield figure.description
        yield "\n".join(
            f"* {side}: `{definitions.expressions[name]}`. {definitions.measures[name]}"
            for side, name in (("Counted", figure.numerator), ("Out of", figure.denominator))
        )
        yield f"In the mart: {definitions.columns[figure.name]}"


def addition() -> Iterator[str]:
    """Yield why shares are not averaged."""
    yield "## Several types, cities or months together"
    above, below = (sum(counts[side] for counts in UNEVEN.values()) for side in (0, 1))
    shares = [Decimal(kept) / Decimal(all_) for kept, all_ in UNEVEN.values()]
    told = " and ".join(
        f"{kept} of {all_} {name} ({Decimal(kept) / all_:.0%})" for name, (kept, all_) in UNEVEN.items()
    )
    mean = sum(shares) / len(shares)
    yield (
        f"Add up the counts and divide then. {told} closed by their target are {above} of {below}, "
        f"{Decimal(above) / below:.1%}; the mean of the two shares would be {mean:.1%}. ".replace("%", " %")
        + "The metrics of the semantic layer bear the names of the columns and do it that way in every "
        "grouping. Backlogs (`open_at_end`, `overdue_at_end`) add up over types and cities; over months the "
        "last one counts."
    )


def durations(definitions: Definitions) -> Iterator[str]:
    """Yield what the mart's columns on durations and endings say."""
    yield "## How long it takes, and how it ends"
    yield "These belong to one city, type and month and cannot be added up or averaged: they are no metrics."
    figures = {figure.name for figure in definitions.figures}
    rows = [
        [f"`{name}`", description]
        for name, description in definitions.columns.items()
        if name not in figures and name.endswith(("_days_to_close", "_30_days_share"))
    ]
    yield table(["Column", "What it says"], rows)


def queries() -> Iterator[str]:
    """Yield how to ask for the figures."""
    yield "## Asking for them"
    yield "From the published warehouse, with any SQL tool:"
    yield (
        "```sql\nselect month_on, on_time_closed_only_share, on_time_due_share, open_at_end, overdue_at_end\n"
        "from operations.mart_metric_book\nwhere city = 'simulated' and event_type = 'pothole'\n"
        "order by month_on\n```"
    )
    yield (
        "From the semantic layer, for any grouping. `mf` is one of the development tools; it reads the "
        "warehouse that was built last and needs the parsed project, which `dbt parse` writes:"
    )
    yield (
        "```sh\ncd dbt_project && export CITYSIGNAL_HOME=../var\n../.venv/bin/dbt parse\n"
        "../.venv/bin/mf query --metrics on_time_due_share,overdue_at_end "
        "--group-by metric_time__month,event_type__event_group --order metric_time__month\n```"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def day(at: Any) -> str:
    """Return a date in words, a dash where there is none."""
    return f"{at:%d %b}" if at else "-"


def days(number: float | None) -> str:
    """Return a number of days in words."""
    return "not known yet" if number is None else f"{number:g} days"


def ended(case: Mapping[str, Any]) -> str:
    """Return when a case ended, or that it is open."""
    if case["is_open"]:
        return "open"
    return day(case["closed_at"]) if case["closed_at"] else "on an unknown day"


def verdict(case: Mapping[str, Any]) -> str:
    """Return whether a case was in time, as far as can be said."""
    if not case["due_at"]:
        return "no target"
    if case["is_undated"]:
        return "cannot be said"
    if not case["is_open"]:
        said = "yes" if case["closed_at"] <= case["due_at"] else "no"
        return f"{said}, target not yet passed" if case["due_at"] >= case["as_of_at"] else said
    return "no, overdue" if case["due_at"] < case["as_of_at"] else "waiting"


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(render(read_definitions()), encoding="utf-8")


if __name__ == "__main__":
    main()
