"""Draws estimates with their intervals for people who look at a run; estimating belongs in `inference.py`."""

import io
from pathlib import Path

#: As many lines as can be told apart in the panel Dagster gives an image.
SHOWN = 24
COLOURS = {"supported": "#1b7837", "reversed_or_confounded": "#b35806"}
OTHER = "#8c8c8c"


def forest_plot(estimates: Path) -> bytes:
    """Return a PNG of the discs' rate ratios on a log scale, the best supported first.

    Args:
        estimates: estimates.parquet. Rows without an interval are left out; the plot may be empty of lines.
    """
    import duckdb
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with duckdb.connect() as con:
        rows = con.execute(
            """select city || '  ' || question_id, rr, ci_low, ci_high, verdict from read_parquet(?)
               where band = 1 and rr is not null and ci_low > 0 and isfinite(ci_high)
               order by verdict <> 'supported', p_adjusted nulls last, city, question_id limit ?""",
            [str(estimates), SHOWN],
        ).fetchall()
    figure = Figure(figsize=(8, 1.2 + 0.28 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    for line, (_, ratio, low, high, verdict) in enumerate(rows):
        colour = COLOURS.get(verdict, OTHER)
        axes.plot([low, high], [line, line], color=colour, linewidth=2)
        axes.plot([ratio], [line], marker="o", color=colour)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("rate after ÷ before, against the area around (log scale); green = supported")
    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()
