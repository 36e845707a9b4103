"""How one source of a feed is read and what its columns mean; the feed itself belongs to feed."""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from assets.ingest.declared_values import Crs, Day, Id, Moment, Positive, Share, Text
from assets.ingest.sql_expression import quoted, source_columns

Format = Literal["csv", "geojson", "json", "jsonl", "parquet", "shapefile"]
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


class Expectations(Declaration):
    """What a plausible delivery looks like; the gate checks it."""

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


class Part(Declaration):
    """One source of a feed: a file or an address, and how it is read.

    Attributes:
        source: Absolute path or http(s) address, variables already substituted.
        header: Column names that replace the source's own first line.
        valid_from: First day the part speaks of; for a boundary, from when the areas hold.
        valid_to: First day it speaks of no more.
        as_of: When the copy was taken, UTC without a zone.
        columns: What differs from the feed's columns; a null leaves a column out.
    """

    id: Id
    source: Text
    format: Format
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
    """One row of a feed's categories: which event type a source category is."""

    category: str | None = None
    subcategory: str | None = None
    code: str | None = None
    event_type: str
    event_subtype: str | None = None
    target_days: Positive | None = None
