"""Published files written so that the same rows give the same bytes; the feeds say what is in them."""

import gzip
import io
import zipfile
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import shapely

# Any fixed time will do: archives carry one, and the clock's would change the bytes.
_ZIP_TIME = (2026, 1, 1, 0, 0, 0)


def shaped(sql: str, **frames: pd.DataFrame | pa.Table) -> pa.Table:
    """Return the result of DuckDB SQL over the named frames; rows keep their order."""
    with duckdb.connect(config={"threads": 1}) as con:
        for name, frame in frames.items():
            con.register(name, frame)
        return con.sql(sql).to_arrow_table()


def write_gzip(path: Path, content: bytes) -> None:
    """Write gzip without a name or a time in its header."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 4, raw, mtime=0) as file:
        file.write(content)


def csv_bytes(table: pa.Table, *, delimiter: str = ",", eol: str = "\n") -> bytes:
    """Return CSV with a header, quoted where needed, null as nothing."""
    sink = io.BytesIO()
    options = pa_csv.WriteOptions(delimiter=delimiter, eol=eol, quoting_style="needed", quoting_header="none")
    pa_csv.write_csv(table, sink, options)
    return sink.getvalue()


def with_lines(content: bytes, lines: list[bytes], rng: np.random.Generator) -> bytes:
    """Return the text with further lines put after random lines that follow the header."""
    breaks = np.flatnonzero(np.frombuffer(content, dtype=np.uint8) == ord("\n")) + 1
    places = np.sort(rng.choice(breaks, len(lines), replace=False))
    pieces, start = [], 0
    for place, line in zip(places, lines, strict=True):
        pieces += [content[start:place], line]
        start = place
    return b"".join([*pieces, content[start:]])


def json_objects(table: pa.Table, *, without_nulls: bool = False) -> list[str]:
    """Return each row as a JSON object."""
    sql = "select to_json(rows)::varchar as told from rows"
    if without_nulls:
        sql = "select json_merge_patch('{}', to_json(rows))::varchar as told from rows"
    return shaped(sql, rows=table).column("told").to_pylist()


def geojson_bytes(properties: pa.Table, geometries: np.ndarray) -> bytes:
    """Return a feature collection; a null geometry stays null.

    Args:
        properties: One row per feature.
        geometries: Shapely geometries in lon/lat, or None.
    """
    shapes = shapely.to_geojson(shapely.set_precision(geometries, 1e-7, mode="pointwise"))
    features = shaped(
        """
        select
            concat(
                '{"type":"Feature","properties":', p.told, ',"geometry":', coalesce(s.told, 'null'), '}'
            ) as told
        from properties as p positional join shapes as s
        """,
        properties=pa.table({"told": json_objects(properties)}),
        shapes=pa.table({"told": pa.array(shapes.tolist(), pa.string())}),
    )
    body = ",\n".join(features.column("told").to_pylist())
    return f'{{"type":"FeatureCollection","features":[\n{body}\n]}}\n'.encode()


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write Parquet."""
    pq.write_table(table, path, compression="zstd")


def write_shapefile_zip(path: Path, attributes: pd.DataFrame, geometries: np.ndarray, crs: str) -> None:
    """Write a zipped shapefile named as the archive.

    Args:
        path: The archive, `<name>.zip`.
        attributes: One row per geometry; names of at most ten characters.
        geometries: Shapely geometries in `crs`.
        crs: Coordinate reference system of the geometries.
    """
    import pyogrio

    loose = path.with_suffix("")
    loose.mkdir()
    pyogrio.raw.write(
        loose / f"{path.stem}.shp",
        shapely.to_wkb(geometries),
        [attributes[name].to_numpy() for name in attributes],
        list(attributes),
        driver="ESRI Shapefile",
        geometry_type="LineString",
        crs=crs,
        layer_options={"DBF_DATE_LAST_UPDATE": "2026-01-01"},
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(loose.iterdir()):
            archive.writestr(zipfile.ZipInfo(file.name, _ZIP_TIME), file.read_bytes(), zipfile.ZIP_DEFLATED)
            file.unlink()
    loose.rmdir()
