"""What each extract is and which columns it may show, read from the dbt manifest; no rows here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

FIELD_TYPES = {
    "VARCHAR": "string",
    "UUID": "string",
    "BOOLEAN": "boolean",
    "TINYINT": "integer",
    "SMALLINT": "integer",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "HUGEINT": "integer",
    "UTINYINT": "integer",
    "USMALLINT": "integer",
    "UINTEGER": "integer",
    "UBIGINT": "integer",
    "UHUGEINT": "integer",
    "FLOAT": "number",
    "DOUBLE": "number",
    "DECIMAL": "number",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "datetime",
    "TIMESTAMP WITH TIME ZONE": "datetime",
}


class DictionaryError(Exception):
    """A declaration of an extract that cannot be published, naming the exposure or view and the remedy."""


@dataclass(frozen=True)
class Column:
    """One column cleared for publication: its name and what it means."""

    name: str
    description: str


def _licence_mapping(value: Any) -> Any:
    if isinstance(value, str):
        return {"path": value} if "://" in value else {"name": value}
    return value


class Licence(BaseModel):
    """A licence as Data Package knows it: an Open Definition or SPDX id, or an address."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = Field(default=None, pattern=r"^[-a-zA-Z0-9._]+$")
    title: str | None = None
    path: str | None = Field(default=None, pattern=r"^https?://")

    @model_validator(mode="after")
    def _is_identified(self) -> "Licence":
        if self.name is None and self.path is None:
            raise ValueError("a licence needs a name (an SPDX id such as CC0-1.0) or a path (its address)")
        return self


class ExtractTerms(BaseModel):
    """What an exposure's `config.meta.extract` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str = Field(min_length=1)
    description: str = Field(min_length=1)
    licence: Annotated[Licence, BeforeValidator(_licence_mapping)]
    cadence: str
    primary_key: Annotated[
        tuple[str, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
    ] = Field(min_length=1)
    allow_empty: bool = False


@dataclass(frozen=True)
class Extract:
    """One extract: its terms, the view it comes from, and its cleared columns in YAML order."""

    terms: ExtractTerms
    schema: str
    view: str
    columns: tuple[Column, ...]


def read_extracts(manifest_path: Path) -> list[Extract]:
    """Return the extracts that the exposures of a dbt project declare, by dataset name.

    Raises:
        DictionaryError: When the manifest is missing, declares no extract, or declares one wrongly.
    """
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DictionaryError(f"{manifest_path}: there is no dbt manifest; run the pipeline first") from error
    except ValueError as error:
        raise DictionaryError(f"{manifest_path}: not a dbt manifest ({error})") from error
    extracts = [
        _read_extract(manifest, exposure)
        for exposure in manifest.get("exposures", {}).values()
        if "extract" in _meta(exposure)
    ]
    if not extracts:
        raise DictionaryError(
            f"{manifest_path}: no exposure has config.meta.extract, so nothing can be published"
        )
    names = [extract.terms.dataset for extract in extracts]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DictionaryError(f"{manifest_path}: several exposures publish the dataset {', '.join(repeated)}")
    return sorted(extracts, key=lambda extract: extract.terms.dataset)


def field_type(relation: str, column: str, duckdb_type: str) -> str:
    """Return the Data Package type of a column, given its DuckDB type.

    Raises:
        DictionaryError: For a type that CSV cannot carry, or a time whose zone the name does not tell.
    """
    base = duckdb_type.partition("(")[0]
    if base == "ENUM":
        return "string"
    if base not in FIELD_TYPES or duckdb_type.endswith("]"):
        raise DictionaryError(
            f"{relation}.{column}: type {duckdb_type} cannot go into a CSV; cast it in the view"
        )
    if base == "TIMESTAMP" and not column.endswith(("_at", "_local")):
        raise DictionaryError(
            f"{relation}.{column}: a time without zone must end in _at (UTC) or _local (the city's clock)"
        )
    return FIELD_TYPES[base]


def _read_extract(manifest: Mapping[str, Any], exposure: Mapping[str, Any]) -> Extract:
    name = exposure["name"]
    try:
        terms = ExtractTerms.model_validate(_meta(exposure)["extract"])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise DictionaryError(f"exposure {name}, config.meta.extract.{key}: {first['msg']}") from error
    models = [node for node in exposure["depends_on"]["nodes"] if node.startswith("model.")]
    if len(models) != 1:
        raise DictionaryError(f"exposure {name}: an extract depends on one view, not on {len(models)}")
    node = manifest["nodes"].get(models[0])
    if node is None:
        raise DictionaryError(f"exposure {name}: {models[0]} is not in the manifest; is it disabled?")
    columns = tuple(_cleared_columns(name, node))
    cleared = {column.name for column in columns}
    absent = [key for key in terms.primary_key if key not in cleared]
    if absent:
        raise DictionaryError(
            f"exposure {name}: primary key column {', '.join(absent)} is not published; "
            f"set config.meta.publish: true on it in the YAML of {node['name']}"
        )
    return Extract(terms, node["schema"], node.get("alias") or node["name"], columns)


def _cleared_columns(exposure: str, node: Mapping[str, Any]) -> list[Column]:
    columns = []
    for column in node["columns"].values():
        # Only the YAML value `true` clears a column: a quoted "no" is truthy, and a leak cannot be recalled.
        if _meta(column).get("publish") is not True:
            continue
        description = " ".join(column.get("description", "").split())
        if not description:
            raise DictionaryError(f"exposure {exposure}: {node['name']}.{column['name']} needs a description")
        columns.append(Column(column["name"], description))
    return columns


def _meta(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node's meta: dbt 1.11 writes `config.meta`, and copies or keeps `meta` beside it."""
    return {**(node.get("meta") or {}), **((node.get("config") or {}).get("meta") or {})}
