"""The delivery gate: is this batch of this feed plausible? Facts about single rows belong to dbt.

DuckDB reduces a delivery to one row of aggregates, and Great Expectations judges that row: nothing is held in
memory, and the declared `expect` values are the expectations.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import duckdb

from assets.ingest.aggregates import aggregates
from assets.ingest.contracts import EVENT_KINDS
from assets.ingest.like_days import Bounds, like_day_expectation, public_holidays, rows_of_day

if TYPE_CHECKING:
    import pandas as pd

    from assets.ingest.feed import City, Feed
    from assets.ingest.part import Mode, Part

CHECK_NAMES = ("schema", "key", "volume", "null_share", "value_range", "time_range")
CheckName = Literal["schema", "key", "volume", "null_share", "value_range", "time_range"]

#: A few poison dates (2115) are the source's dirt; more than this share means that the column is misread.
BLOCKING_TIME_SHARE = 0.05
#: Staging would quarantine these rows one by one; a column that nobody can read is a changed format.
BLOCKING_UNREADABLE_SHARE = 0.5
#: A share of fewer rows than this says little: where they are not the whole part it warns and does not block.
FEW_ROWS = 200


@dataclass
class CheckResult:
    """What one check of the gate found in a delivery.

    Attributes:
        blocking: Whether it keeps the delivery out of raw where it fails.
        observed: The figures, for people.
        expected: What was declared, for people.
        message: What failed, with the remedy; empty where it passed.
    """

    name: CheckName
    passed: bool
    blocking: bool
    observed: str
    expected: str
    message: str


@dataclass(frozen=True)
class _Expectation:
    """One bound on one aggregate."""

    check: CheckName
    aggregate: str
    low: float | None
    high: float | None
    is_blocking: bool
    what: str
    remedy: str

    def expected(self) -> str:
        if self.low == self.high:
            return f"{self.what} = {_shown(self.low)}"
        bounds = [
            f">= {_shown(self.low)}" if self.low is not None else "",
            f"<= {_shown(self.high)}" if self.high is not None else "",
        ]
        return f"{self.what} {' and '.join(bound for bound in bounds if bound)}"


@dataclass(frozen=True)
class _Volume:
    """How much a delivery brought, and of what: of a whole part, or of what changed in it.

    `rows_of_day` counts the new rows of the delivery's day; nothing: they are not compared with like days.
    """

    mode: "Mode"
    rows_seen: int
    rows_known_before: int | None
    new_rows: int | None
    rows_in_file: int | None
    rows_of_day: int | None
    like_day: Bounds

    @property
    def part_rows(self) -> int:
        """Rows of the whole part, were this delivery to land."""
        if self.mode in ("full", "snapshot"):
            return self.rows_seen
        return (self.rows_known_before or 0) + (self.rows_seen if self.new_rows is None else self.new_rows)


def validate_delivery(
    con: duckdb.DuckDBPyConnection,
    raw_parquet: Path,
    quarantine_parquet: Path,
    city: "City",
    feed: "Feed",
    part: "Part",
    *,
    mode: "Mode",
    rows_seen: int,
    rows_known_before: int | None,
    new_rows: int | None,
    delivered_at: datetime,
    latest: datetime,
    like_days: Sequence[tuple[datetime, int]] = (),
    rows_in_file: int | None = None,
) -> list[CheckResult]:
    """Judge a delivery by what its feed's declaration expects.

    A whole part is judged as it is. What changed in a part may be a handful of rows or none: then the part it
    leads to must be large enough, and shares of fewer than FEW_ROWS rows warn where they would block.

    Args:
        con: Any connection.
        raw_parquet: All rows that were received and could be parsed, before they are compared with what is
            known.
        quarantine_parquet: The rows that could not be parsed.
        city: The feed's city; its clock and its holidays say what day it is.
        feed: Its `expect` values are the expectations; its `exclude` ranges are left out of shares, values
            and times.
        part: The part that was delivered.
        mode: How it was asked for.
        rows_seen: Records received.
        rows_known_before: Live rows of the part before this delivery, nothing for the first.
        new_rows: Rows whose id was not known. Nothing where the question was no ordinary one (a backfill):
            then the volume is not compared with like days.
        delivered_at: As of when the rows hold, UTC.
        latest: Latest plausible event time, UTC.
        like_days: Delivery time (UTC) and new rows of the part's earlier landed deliveries.
        rows_in_file: Records counted apart from the reader; they must be in one of the two files.

    Returns:
        One result for each of CHECK_NAMES, in that order.
    """
    earliest = datetime.combine(feed.expect.earliest, time()) if feed.expect.earliest else None
    latest = _naive(latest)
    rows, like_day = _like_day(city, feed, mode, new_rows, delivered_at, like_days)
    volume = _Volume(mode, rows_seen, rows_known_before, new_rows, rows_in_file, rows, like_day)
    observed = aggregates(con, raw_parquet, quarantine_parquet, feed, part, earliest, latest).assign(
        part_rows=volume.part_rows, rows_of_day=rows
    )
    judged = int(observed["judged_rows"].iloc[0] + observed["quarantined"].iloc[0])
    is_few = mode != "full" and judged < FEW_ROWS
    expectations = [
        *_of_schema(observed, is_few),
        *_of_key(feed, is_few),
        *_of_volume(feed, volume),
        *_of_null_share(feed, is_few),
        *_of_value_range(feed),
        *_of_time_range(feed, earliest, latest, is_few),
    ]
    succeeded = _judge(observed, expectations)
    return [_result(name, observed, expectations, succeeded) for name in CHECK_NAMES]


def latest_plausible(feed: "Feed", as_of: datetime) -> datetime:
    """Return the latest event time that a copy taken at a time may hold; a day's grace for time zones."""
    if feed.expect.latest is not None:
        return datetime.combine(feed.expect.latest, time()) + timedelta(days=1)
    return as_of + timedelta(days=1)


def _naive(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _like_day(
    city: "City",
    feed: "Feed",
    mode: "Mode",
    new_rows: int | None,
    delivered_at: datetime,
    like_days: Sequence[tuple[datetime, int]],
) -> tuple[int | None, Bounds]:
    """Return the new rows of the delivery's day and what is expected of them; nothing where nothing is."""
    if new_rows is None or not (
        mode in ("incremental", "tail") or (mode == "full" and feed.cadence == "daily")
    ):
        return None, Bounds()
    zone = ZoneInfo(city.time_zone)
    history = [(_naive(at).replace(tzinfo=UTC).astimezone(zone), rows) for at, rows in like_days]
    day = _naive(delivered_at).replace(tzinfo=UTC).astimezone(zone).date()
    bounds = like_day_expectation(history, day, public_holidays(city.country, city.state))
    if feed.cadence == "hourly":
        # The day is not over: what it has brought so far is no sign of too little.
        bounds = replace(bounds, low=None)
    return rows_of_day(history, day, new_rows), bounds


def _of_schema(observed: "pd.DataFrame", is_few: bool) -> Iterator[_Expectation]:
    yield _Expectation(
        "schema",
        "missing_columns",
        0,
        0,
        True,
        "contract columns missing",
        "replay the feed: its raw rows were written under another contract",
    )
    if is_few:
        # Of a handful of rows a rarely filled column has none.
        return
    named = [name for name in observed if name.startswith("count__") and observed[name].iloc[0] == 0]
    empty = ", ".join(name.removeprefix("count__") for name in named)
    yield _Expectation(
        "schema",
        "empty_columns",
        0,
        0,
        False,
        "mapped columns without any value",
        f"check that the source still fills {empty}, or map another column",
    )


def _of_key(feed: "Feed", is_few: bool) -> Iterator[_Expectation]:
    share = feed.expect.max_key_null_share
    yield _Expectation(
        "key",
        "key_null_share",
        None,
        share,
        # A feed that declares no share has an id in every row, however few they are.
        not (is_few and share > 0),
        "share of rows without source_id",
        "map `source_id` to a column that every row fills, or raise max_key_null_share",
    )


def _of_volume(feed: "Feed", volume: _Volume) -> Iterator[_Expectation]:
    expect, known = feed.expect, volume.rows_known_before
    # That nothing happens now is no failure; who says otherwise says so in the declaration.
    if volume.mode != "snapshot" or "min_rows" in expect.model_fields_set:
        yield _Expectation(
            "volume",
            "part_rows",
            expect.min_rows,
            None,
            True,
            "rows of the part",
            "the source is cut or empty: fetch again, or lower min_rows",
        )
    if volume.mode == "full" and known:
        yield _Expectation(
            "volume",
            "part_rows",
            expect.min_volume_ratio * known,
            None,
            True,
            f"rows of the part ({known:,} known before)",
            "the source lost rows: ask the publisher, or lower min_volume_ratio if it is meant",
        )
    if volume.rows_in_file is not None:
        yield _Expectation(
            "volume",
            "accounted_rows",
            volume.rows_in_file,
            volume.rows_in_file,
            True,
            "raw + quarantined rows",
            "the reader lost or made rows: declare `delimiter` and `encoding`, or report it",
        )
    like = volume.like_day
    if like.low is not None or like.high is not None:
        yield _Expectation(
            "volume",
            "rows_of_day",
            like.low,
            like.high,
            False,
            f"new rows of the day (median {_shown(like.usual)} of {like.days} days like it)",
            "the portal may be late, stopped or loading anew: compare its own count and newest record",
        )


def _of_null_share(feed: "Feed", is_few: bool) -> Iterator[_Expectation]:
    expect = feed.expect
    yield _Expectation(
        "null_share",
        "quarantine_share",
        None,
        expect.max_quarantine_share,
        not is_few,
        "share of quarantined rows",
        "look at the quarantine's reasons; correct `delimiter`, `header` or `encoding`",
    )
    for name, share in expect.max_null_share.items():
        yield _Expectation(
            "null_share",
            f"null_share__{name}",
            None,
            share,
            False,
            f"share of rows without {name}",
            f"check that the source still fills it, or raise max_null_share.{name}",
        )


def _of_value_range(feed: "Feed") -> Iterator[_Expectation]:
    for name, (low, high) in feed.expect.value_ranges.items():
        remedy = f"check unit and values of {name} at the source, or widen value_ranges.{name}"
        yield _Expectation("value_range", f"least__{name}", low, None, False, f"least {name}", remedy)
        yield _Expectation("value_range", f"most__{name}", None, high, False, f"most {name}", remedy)
    if feed.expect.min_location_share is not None:
        yield _Expectation(
            "value_range",
            "location_share",
            feed.expect.min_location_share,
            None,
            False,
            "share of located rows",
            "check `crs`, x, y and the city's `bbox`, or lower min_location_share",
        )


def _of_time_range(
    feed: "Feed", earliest: datetime | None, latest: datetime, is_few: bool
) -> Iterator[_Expectation]:
    if feed.kind not in EVENT_KINDS:
        return
    span = f"{earliest.date() if earliest else 'ever'} to {latest.date()}"
    yield _Expectation(
        "time_range",
        "outside_time_share",
        0,
        feed.expect.max_outside_time_share,
        False,
        f"share of event times outside {span}",
        "they are kept with a flag; correct earliest or latest if they are right",
    )
    yield _Expectation(
        "time_range",
        "outside_time_share",
        None,
        BLOCKING_TIME_SHARE,
        not is_few,
        f"share of event times outside {span}",
        "check the time column and its format, or earliest and latest",
    )
    yield _Expectation(
        "time_range",
        "unreadable_time_share",
        None,
        BLOCKING_UNREADABLE_SHARE,
        not is_few,
        "share of event times that are no time",
        "the source changed their format: map the column with try_strptime",
    )


def _judge(observed: "pd.DataFrame", expectations: list[_Expectation]) -> list[bool]:
    """Let Great Expectations judge the one row; return whether each expectation holds, in their order.

    A figure that nothing gave (the least of no values) breaks no bound; one that is not there breaks each.
    The bounds are on the column's greatest value: of one row that is the value, at half the cost of judging
    value by value (2 ms an expectation against 4).
    """
    import great_expectations as gx
    import great_expectations.expectations as gxe

    is_given = observed.iloc[0].notna()
    suite = gx.ExpectationSuite(
        name="delivery",
        expectations=[
            gxe.ExpectColumnMaxToBeBetween(
                column=each.aggregate, min_value=each.low, max_value=each.high, meta={"position": position}
            )
            for position, each in enumerate(expectations)
            if is_given.get(each.aggregate, False)
        ],
    )
    batch = _batch_definition().get_batch({"dataframe": observed.astype("float64", errors="ignore")})
    outcome = batch.validate(suite, result_format="BOOLEAN_ONLY")
    # Results come back in another order than they were asked.
    succeeded = {r.expectation_config.meta["position"]: bool(r.success) for r in outcome.results}
    return [
        succeeded.get(position, not is_given.get(each.aggregate, True))
        for position, each in enumerate(expectations)
    ]


@lru_cache(maxsize=1)
def _batch_definition() -> Any:
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    frames = context.data_sources.add_pandas("deliveries").add_dataframe_asset("aggregates")
    return frames.add_batch_definition_whole_dataframe("one_row")


def _result(
    name: CheckName, observed: "pd.DataFrame", expectations: list[_Expectation], succeeded: list[bool]
) -> CheckResult:
    mine = [(each, held) for each, held in zip(expectations, succeeded, strict=True) if each.check == name]
    failed = [each for each, held in mine if not held]
    is_blocking = any(each.is_blocking for each in failed or [each for each, _ in mine])
    seen = {each.what: _observed(observed, each.aggregate) for each, _ in mine}
    # What blocks comes first; a bound that warns and one that blocks may say the same.
    told = dict.fromkeys(
        _told(each, _observed(observed, each.aggregate))
        for each in sorted(failed, key=lambda each: not each.is_blocking)
    )
    return CheckResult(
        name=name,
        passed=not failed,
        blocking=is_blocking,
        observed=", ".join(f"{what}: {value}" for what, value in seen.items()) or "nothing",
        expected=", ".join(dict.fromkeys(each.expected() for each, _ in mine)) or "nothing declared",
        message=". ".join(told),
    )


def _told(each: _Expectation, observed: str) -> str:
    bound = each.expected().removeprefix(each.what).strip()
    return f"{each.what} is {observed}, expected {bound}; {each.remedy}"


def _observed(frame: "pd.DataFrame", aggregate: str) -> str:
    return _shown(frame[aggregate].iloc[0]) if aggregate in frame else "nothing"


def _shown(number: float | None) -> str:
    if number is None or number != number:
        return "nothing"
    return f"{number:,.6g}" if abs(number) < 1e6 else f"{number:,.0f}"
