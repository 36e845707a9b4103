"""The delivery gate: is this batch of this feed plausible? Facts about single rows belong to dbt.

DuckDB reduces a delivery to one row of aggregates, and Great Expectations judges that row: nothing is held in
memory, and the declared `expect` values are the expectations.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import duckdb

from assets.ingest.aggregates import aggregates
from assets.ingest.contracts import EVENT_KINDS

if TYPE_CHECKING:
    import pandas as pd

    from assets.ingest.feed import City, Feed
    from assets.ingest.part import Part

CHECK_NAMES = ("schema", "key", "volume", "null_share", "value_range", "time_range")
CheckName = Literal["schema", "key", "volume", "null_share", "value_range", "time_range"]

#: A few poison dates (2115) are the source's dirt; more than this share means that the column is misread.
BLOCKING_TIME_SHARE = 0.05
#: Staging would quarantine these rows one by one; a column that nobody can read is a changed format.
BLOCKING_UNREADABLE_SHARE = 0.5


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


def validate_delivery(
    con: duckdb.DuckDBPyConnection,
    raw_parquet: Path,
    quarantine_parquet: Path,
    city: "City",
    feed: "Feed",
    part: "Part",
    *,
    previous_rows: int | None,
    latest: datetime,
    rows_in_file: int | None = None,
) -> list[CheckResult]:
    """Judge a delivery by what its feed's declaration expects.

    Args:
        con: Any connection.
        raw_parquet: The rows that would land.
        quarantine_parquet: The rows that could not be parsed.
        city: The feed's city.
        feed: Its `expect` values are the expectations.
        part: The part that was delivered.
        previous_rows: Rows of the part's delivery before, nothing for the first.
        latest: Latest plausible event time, UTC without a zone.
        rows_in_file: Records counted apart from the reader; they must be in one of the two files.

    Returns:
        One result for each of CHECK_NAMES, in that order.
    """
    earliest = datetime.combine(feed.expect.earliest, time()) if feed.expect.earliest else None
    if latest.tzinfo is not None:
        latest = latest.astimezone(UTC).replace(tzinfo=None)
    observed = aggregates(con, raw_parquet, quarantine_parquet, feed, part, earliest, latest)
    expectations = _expectations(feed, previous_rows, rows_in_file, earliest, latest)
    succeeded = _judge(observed, expectations)
    return [_result(name, observed, expectations, succeeded) for name in CHECK_NAMES]


def latest_plausible(feed: "Feed", as_of: datetime) -> datetime:
    """Return the latest event time that a copy taken at a time may hold; a day's grace for time zones."""
    if feed.expect.latest is not None:
        return datetime.combine(feed.expect.latest, time()) + timedelta(days=1)
    return as_of + timedelta(days=1)


def _expectations(
    feed: "Feed",
    previous_rows: int | None,
    rows_in_file: int | None,
    earliest: datetime | None,
    latest: datetime,
) -> list[_Expectation]:
    expect = feed.expect
    found = [
        _Expectation("schema", "missing_columns", 0, 0, True, "contract columns missing", "replay the feed"),
        _Expectation(
            "schema",
            "empty_columns",
            0,
            0,
            False,
            "mapped columns without any value",
            "check that the source still fills them",
        ),
        _Expectation(
            "key",
            "key_null_share",
            None,
            expect.max_key_null_share,
            True,
            "share of rows without source_id",
            "map `source_id` to a column that every row fills, or raise max_key_null_share",
        ),
        _Expectation(
            "volume",
            "row_count",
            expect.min_rows,
            None,
            True,
            "rows",
            "the source is cut or empty: fetch again, or lower min_rows",
        ),
        _Expectation(
            "null_share",
            "quarantine_share",
            None,
            expect.max_quarantine_share,
            True,
            "share of quarantined rows",
            "look at the quarantine's reasons; correct `delimiter`, `header` or `encoding`",
        ),
    ]
    if previous_rows:
        found.append(
            _Expectation(
                "volume",
                "row_count",
                expect.min_volume_ratio * previous_rows,
                None,
                True,
                f"rows ({previous_rows:,} in the delivery before)",
                "the source lost rows: ask the publisher, or lower min_volume_ratio if it is meant",
            )
        )
    if rows_in_file is not None:
        found.append(
            _Expectation(
                "volume",
                "accounted_rows",
                rows_in_file,
                rows_in_file,
                True,
                "raw + quarantined rows",
                "the reader lost or made rows: declare `delimiter` and `encoding`, or report it",
            )
        )
    found += [
        _Expectation(
            "null_share",
            f"null_share__{name}",
            None,
            share,
            False,
            f"share of rows without {name}",
            f"check the source, or raise max_null_share.{name}",
        )
        for name, share in expect.max_null_share.items()
    ]
    for name, (low, high) in expect.value_ranges.items():
        found += [
            _Expectation(
                "value_range",
                f"least__{name}",
                low,
                None,
                False,
                f"least {name}",
                f"check the values of {name}",
            ),
            _Expectation(
                "value_range",
                f"most__{name}",
                None,
                high,
                False,
                f"most {name}",
                f"check the values of {name}",
            ),
        ]
    if expect.min_location_share is not None:
        found.append(
            _Expectation(
                "value_range",
                "location_share",
                expect.min_location_share,
                None,
                False,
                "share of located rows",
                "check `crs`, x and y",
            )
        )
    if feed.kind in EVENT_KINDS:
        span = f"{earliest.date() if earliest else 'ever'} to {latest.date()}"
        found += [
            _Expectation(
                "time_range",
                "outside_time_share",
                0,
                feed.expect.max_outside_time_share,
                False,
                f"share of event times outside {span}",
                "they are kept with a flag; correct earliest or latest if they are right",
            ),
            _Expectation(
                "time_range",
                "outside_time_share",
                None,
                BLOCKING_TIME_SHARE,
                True,
                f"share of event times outside {span}",
                "check the time column and its format, or earliest and latest",
            ),
            _Expectation(
                "time_range",
                "unreadable_time_share",
                None,
                BLOCKING_UNREADABLE_SHARE,
                True,
                "share of event times that are no time",
                "the source changed their format: map the column with try_strptime",
            ),
        ]
    return found


def _judge(observed: "pd.DataFrame", expectations: list[_Expectation]) -> list[bool]:
    """Let Great Expectations judge the one row; return whether each expectation holds, in their order."""
    import great_expectations as gx
    import great_expectations.expectations as gxe

    suite = gx.ExpectationSuite(
        name="delivery",
        expectations=[
            gxe.ExpectColumnValuesToBeBetween(
                column=each.aggregate, min_value=each.low, max_value=each.high, meta={"position": position}
            )
            for position, each in enumerate(expectations)
            if each.aggregate in observed
        ],
    )
    batch = _batch_definition().get_batch({"dataframe": observed.astype("float64", errors="ignore")})
    outcome = batch.validate(suite, result_format="BOOLEAN_ONLY")
    # Results come back in another order than they were asked.
    succeeded = {r.expectation_config.meta["position"]: bool(r.success) for r in outcome.results}
    return [succeeded.get(position, False) for position in range(len(expectations))]


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
