"""The files of a simulated city read back as rows of text; what is served of them is city's."""

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv


@dataclass(frozen=True)
class Published:
    """What one file holds.

    Attributes:
        rows: In the file's order; every column text, null where the file has nothing.
        broken: Lines that are no row, without their end.
    """

    rows: pa.Table
    broken: tuple[str, ...] = ()


def read_csv(path: Path, *, delimiter: str = ",", encoding: str = "utf-8") -> Published:
    """Read a CSV with a header; a line of too few or too many fields is broken."""
    with gzip.open(path, "rt", encoding="utf-8-sig" if encoding == "utf-8" else encoding) as file:
        names = next(csv.reader(file, delimiter=delimiter))
    broken: list[str] = []

    def skip(row: pa_csv.InvalidRow) -> str:
        broken.append(row.text)
        return "skip"

    rows = pa_csv.read_csv(
        path,
        read_options=pa_csv.ReadOptions(encoding=encoding, column_names=names, skip_rows=1),
        parse_options=pa_csv.ParseOptions(
            delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip
        ),
        convert_options=pa_csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    )
    return Published(rows, tuple(broken))


def read_features(path: Path) -> Published:
    """Read points of a GeoJSON as their properties and `lon` and `lat`, null where there is no geometry."""
    features = json.loads(gzip.decompress(path.read_bytes()))["features"]
    names = list(features[0]["properties"])
    columns = {name: [feature["properties"][name] for feature in features] for name in names}
    points = [(feature["geometry"] or {"coordinates": (None, None)})["coordinates"] for feature in features]
    columns |= {
        name: [None if point[at] is None else repr(point[at]) for point in points]
        for at, name in enumerate(("lon", "lat"))
    }
    return Published(pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}))


def read_records(path: Path) -> Published:
    """Read a JSON array of objects that leave nulls out."""
    records = json.loads(gzip.decompress(path.read_bytes()))
    names = dict.fromkeys(name for record in records for name in record)
    columns = {name: pa.array([record.get(name) for record in records], pa.string()) for name in names}
    return Published(pa.table(columns))


def read_parquet(path: Path) -> Published:
    """Read Parquet; what is typed in it becomes the text that its type prints."""
    with duckdb.connect() as con:
        rows = con.read_parquet(str(path))
        texts = ", ".join(f'"{name}"::varchar as "{name}"' for name in rows.columns)
        return Published(rows.project(texts).to_arrow_table())
