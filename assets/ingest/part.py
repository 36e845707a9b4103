"""How one source of a feed is asked, read and kept up; the feed itself belongs to feed."""

import re
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from assets.ingest.declared_values import Crs, Day, Id, Moment, Positive, Share, Text
from assets.ingest.sql_expression import quoted, source_columns

Format = Literal["csv", "geojson", "json", "jsonl", "parquet", "shapefile", "xml"]
Portal = Literal["files", "socrata", "arcgis", "ckan", "carto", "opendatasoft", "open311", "outages"]
#: How a part is kept up to date; Sync says what each means.
Mode = Literal["full", "incremental", "snapshot", "tail"]
GEOMETRY_FORMATS: tuple[Format, ...] = ("geojson", "shapefile")
_FORMAT_OF_SUFFIX: dict[str, Format] = {
    ".csv": "csv",
    ".geojson": "geojson",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".shp": "shapefile",
}


def _span(value: Any) -> Any:
    found = re.fullmatch(r"(\d+)\s*(m|h|d)", value.strip()) if isinstance(value, str) else None
    if found is None:
        if isinstance(value, timedelta):
            return value
        raise ValueError(f"{value!r} is no span of time; write it as 10m, 6h or 2d")
    return timedelta(**{{"m": "minutes", "h": "hours", "d": "days"}[found[2]]: int(found[1])})


#: Written as 10m, 6h or 2d.
Span = Annotated[timedelta, BeforeValidator(_span)]


def _source_of(value: Any) -> Any:
    if isinstance(value, str):
        return {"column": value}
    if isinstance(value, dict) and set(value) == {"sql"}:
        return value
    raise ValueError('is no source; write a source column name, or {sql: an expression over "columns"}')


class Declaration(BaseModel):
    """What every declared thing is: strict about its keys, and never changed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Declaration):
    """Where a canonical column comes from: a source column, or an expression over source columns."""

    column: Text | None = None
    sql: Text | None = None

    def expression(self) -> str:
        """Return it as DuckDB SQL that gives text."""
        if self.sql is None:
            return quoted(self.column)
        # The newline ends a comment at the end of the declared text.
        return f"cast(({self.sql}\n) as varchar)"

    def columns(self) -> tuple[str, ...]:
        """Return the source columns it names."""
        return (self.column,) if self.sql is None else source_columns(self.sql)


DeclaredSource = Annotated[Source, BeforeValidator(_source_of)]


class Request(Declaration):
    """How a portal is asked.

    Attributes:
        page_rows: Rows to ask for at once; the portal may give fewer. Nothing: what suits the protocol.
        token_env: Environment variable that holds the token, where the portal wants one.
        where: A filter in the portal's own language, put in front of ours.
        api: Which Socrata interface; `soda3` needs a token.
        records: JSON pointer to the list of records, for an outage snapshot (`/outages`; empty: the answer).
        jurisdiction: Open311 `jurisdiction_id`.
        window_days: Days of one Open311 question; a window that hits the portal's cap is split.
        calls_at_once: Open questions to one host.
    """

    page_rows: int | None = Field(None, ge=1)
    token_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] | None = None
    where: Text | None = None
    api: Literal["soda2", "soda3"] = "soda2"
    records: Annotated[str, Field(pattern=r"^(/.*)?$")] = ""
    jurisdiction: Text | None = None
    window_days: float = Field(7.0, gt=0, le=90)
    calls_at_once: int = Field(2, ge=1, le=8)


class Sync(Declaration):
    """How a part is kept up to date.

    Attributes:
        mode: `full`: the whole part each time, compared by content. `incremental`: what changed since the
            cursor. `snapshot`: the whole of what is happening now; what is gone has ended. `tail`: the days
            since the cursor. Nothing: what suits the protocol.
        cursor: Source column that says when a record changed. Nothing: the portal's own.
        overlap: How far before the cursor each question begins.
        created: Source column by whose days and months the portal is asked, where the event time is an
            expression. Nothing: the one mapped to event time.
        deletions: How rows that vanished are found besides full reads: the ids of the months whose counts
            differ, all ids, or not at all (then a full read finds none gone either). Nothing: what suits the
            protocol.
        full_every_days: An incremental part is read whole at least so often.
        settles_after_days: A part whose last day is longer ago is asked once a month only.
    """

    mode: Mode | None = None
    cursor: Text | None = None
    overlap: Span = timedelta(minutes=10)
    created: Text | None = None
    deletions: Literal["by_month", "by_id", "never"] | None = None
    full_every_days: Positive | None = None
    settles_after_days: Positive = 90.0


class Exclusion(Declaration):
    """Records that the publisher's steward says not to use, with the reason; they stay, flagged.

    Attributes:
        since: First day of the range, by event time.
        until: First day after it.
        reason: Why, in one sentence.
    """

    since: Day | None = None
    until: Day | None = None
    reason: Text


class Expectations(Declaration):
    """What a plausible delivery looks like; the gate checks it.

    Attributes:
        max_unmapped_share: Share of the feed's events whose category, or whose status, may be told and yet be
            mapped by nothing; above it nothing is published. The warehouse judges it, over all deliveries.
    """

    min_rows: int = Field(1, ge=0)
    max_null_share: dict[str, Share] = {}
    earliest: Day | None = None
    latest: Day | None = None
    value_ranges: dict[str, tuple[float, float]] = {}
    min_location_share: Share | None = None
    min_volume_ratio: Share = 0.5
    max_key_null_share: Share = 0.0
    max_quarantine_share: Share = 0.01
    max_outside_time_share: Share = 0.0
    max_unmapped_share: Share = 0.02


class Part(Declaration):
    """One source of a feed: a file or an address, and how it is read.

    Attributes:
        source: Absolute path or http(s) address, variables already substituted. For a portal, the address of
            the data set: its page or its interface, as the protocol's module says.
        portal: Where it differs from the feed's; so for request, sync, verified.
        header: Column names that replace the source's own first line.
        valid_from: First day the part speaks of; for a boundary, from when the areas hold.
        valid_to: First day it speaks of no more.
        as_of: When the copy was taken, UTC without a zone.
        columns: What differs from the feed's columns; a null leaves a column out.
    """

    id: Id
    source: Text
    format: Format
    portal: Portal | None = None
    request: Request | None = None
    sync: Sync | None = None
    verified: bool | None = None
    crs: Crs | None = None
    encoding: Text | None = None
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    skip_rows: int = Field(0, ge=0)
    header: tuple[Text, ...] | None = None
    valid_from: Day | None = None
    valid_to: Day | None = None
    as_of: Moment | None = None
    columns: dict[str, DeclaredSource | None] = {}

    @property
    def is_remote(self) -> bool:
        """Whether the source is an http(s) address."""
        return self.source.startswith(("http://", "https://"))

    @model_validator(mode="before")
    @classmethod
    def _format_from_name(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("source"), str) and "format" not in values:
            path = PurePosixPath(urlsplit(values["source"]).path.lower())
            while path.suffix in (".gz", ".zip"):
                path = path.with_suffix("")
            if path.suffix in _FORMAT_OF_SUFFIX:
                return {**values, "format": _FORMAT_OF_SUFFIX[path.suffix]}
        return values


class CategoryRule(Declaration):
    """One row of a feed's categories: which event type a source category is.

    Attributes:
        is_private: Its cases are kept out of extracts.
        is_noise: Its cases are no demand, such as calls that all bear the address of one reporter.
    """

    category: str | None = None
    subcategory: str | None = None
    code: str | None = None
    event_type: str
    event_subtype: str | None = None
    target_days: Positive | None = None
    is_private: bool = False
    is_noise: bool = False
