"""Draws how many records of a feed fall into each month; whether that is too few is the gate's."""

import base64
import io

import duckdb

from assets.ingest.aggregates import read_time
from assets.ingest.feed import Feed
from assets.ingest.lake import Lake
from assets.ingest.sql_expression import literal, quoted

#: Poison dates would stretch the axis over centuries; the gate has its own check for them.
EARLIEST, LATEST = "1990-01-01", "2100-01-01"


def records_by_month(lake: Lake, feed: Feed) -> list[tuple[object, int]]:
    """Return (first day of the month, records) over all raw files of a feed, in the order of time.

    Records whose time cannot be read, or lies before 1990 or after 2099, are left out.
    """
    files = lake.raw(feed.kind, feed.city, feed.id) / "*.parquet"
    if not feed.event_time_columns or not any(files.parent.glob("*.parquet")):
        return []
    told = f"coalesce({', '.join(read_time(quoted(name)) for name in feed.event_time_columns)})"
    with duckdb.connect() as con:
        return con.execute(
            f"""select date_trunc('month', told)::date as month_on, count(*)
                from (select {told} as told from read_parquet({literal(str(files))}, union_by_name = true))
                where told >= '{EARLIEST}' and told < '{LATEST}' group by 1 order by 1"""  # noqa: S608
        ).fetchall()


def volume_plot(lake: Lake, feed: Feed) -> str | None:
    """Return records by month as an image in Markdown, or nothing where no record tells a time."""
    counts = records_by_month(lake, feed)
    if not counts:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.2), layout="constrained")
    axes = figure.add_subplot()
    months, records = zip(*counts, strict=True)
    axes.bar(months, records, width=25, color="#2166ac")
    axes.set_ylabel("records a month")
    axes.margins(x=0.01)
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return f"![records by month](data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()})"
