"""Draws the plots of a method card, the lag curve and the map; what they mean is `card_text`'s.

The same rows give the same bytes. No text of a feed or a declaration enters a plot.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from assets.correlate.card_rows import Cell, Lag

#: First reports of a cell are shown by class, never as a number: lower end of the class, colour, label.
CLASSES = (
    (1, "#eff3ff", "1 to 9"),
    (10, "#bdd7e7", "10 to 49"),
    (50, "#6baed6", "50 to 199"),
    (200, "#3182bd", "200 to 999"),
    (1000, "#08519c", "1,000 or more"),
)
INK, CURVE, BAND = "#222222", "#1f4e8c", "#c9d8ec"
#: Ratios beyond these are cut off: a wide interval would press the curve into a line.
LOWEST, HIGHEST = 1 / 4, 4.0
TICKS = (0.25, 0.5, 0.67, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 4.0)
KM_PER_DEGREE = 111.32
PNG_DPI = 72
PNG_COLOURS = 32
_STYLE = {
    "svg.hashsalt": "citysignal",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 8.0,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "path.simplify": False,
}


def curve_svg(weeks: Sequence[Lag], days: Sequence[Lag]) -> str:
    """Return the lag curves as an SVG element: weeks with both intervals, days small beside them."""
    return _svg(
        (7.2, 2.4), lambda figure: _draw_curves(figure, weeks, days, bottom=0.2, height=0.72), "curve"
    )


def map_svg(cells: Sequence[Cell]) -> str:
    """Return the cells with first reports on a plain ground as an SVG element, north up."""
    return _svg((4.8, 3.2), lambda figure: _draw_map(figure, cells, (0.01, 0.01, 0.72, 0.98)), "map")


def card_png(weeks: Sequence[Lag], days: Sequence[Lag], cells: Sequence[Cell]) -> bytes:
    """Return both plots in one small PNG, for pages that show pictures but no SVG."""
    with _styled():
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from PIL import Image

        figure = Figure(figsize=(8.6, 5.2), dpi=PNG_DPI)
        canvas = FigureCanvasAgg(figure)
        _draw_curves(figure, weeks, days, bottom=0.62, height=0.34)
        _draw_map(figure, cells, (0.06, 0.01, 0.62, 0.5))
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    file = io.BytesIO()
    picture.quantize(PNG_COLOURS, dither=Image.Dither.NONE).save(file, "png")
    return file.getvalue()


def curve_is_known(lags: Sequence[Lag]) -> bool:
    """Return whether a lag curve has a ratio to draw."""
    return any(lag.rr is not None for lag in lags)


def class_of(n_anchor: int) -> str:
    """Return the label of the class that a number of first reports falls into."""
    return next(label for low, _, label in reversed(CLASSES) if n_anchor >= low)


def _styled() -> Any:
    import matplotlib

    return matplotlib.rc_context(_STYLE)


def _svg(size: tuple[float, float], draw: Callable[[Any], None], name: str) -> str:
    with _styled():
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        figure = Figure(figsize=size)
        figure.patch.set_visible(False)
        FigureCanvasSVG(figure)
        draw(figure)
        file = io.StringIO()
        figure.savefig(
            file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    return _embedded(file.getvalue(), name)


def _embedded(document: str, name: str) -> str:
    """Return the SVG element of a document so that two of them can stand in one page.

    Ids that nothing points to are dropped, the others get the plot's name, since matplotlib uses the same in
    every figure; the size is the reader's, and coordinates keep two decimals of 1/72 inch.
    """
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", element, flags=re.DOTALL)
    element = re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element)
    )
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', element))
    element = re.sub(
        r' id="([^"]*)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", element
    )
    element = re.sub(r'(href="#|url\(#)', rf"\1{name}-", element)
    element = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", element)
    return re.sub(r">\s+<", "><", element).strip()


def _draw_curves(
    figure: Any, weeks: Sequence[Lag], days: Sequence[Lag], *, bottom: float, height: float
) -> None:
    reach = _reach([*weeks, *days])
    axes = figure.add_axes((0.075, bottom, 0.54, height))
    _draw_curve(axes, weeks, reach, marker="o")
    axes.set_xlabel("weeks before (–) and after the first report")
    axes.set_ylabel("level, 1 = the weeks before")
    axes.set_xticks([-8, -6, -4, -2, -1, 1, 2, 4, 6, 8])
    small = figure.add_axes((0.69, bottom, 0.3, height))
    _draw_curve(small, days, reach, marker=None)
    small.set_xlabel("days")
    small.set_xticks([-56, -28, 0, 28, 56])
    small.tick_params(labelleft=False)


def _reach(lags: Sequence[Lag]) -> float:
    """Return how far the axis goes above and below 1, as a ratio."""
    ends = [end for lag in lags if lag.unit == "week" for end in (lag.band_low, lag.band_high) if end]
    ends += [lag.rr for lag in lags if lag.rr]
    return min(max([1.25, *(math.exp(abs(math.log(end))) * 1.04 for end in ends)]), HIGHEST)


def _draw_curve(axes: Any, lags: Sequence[Lag], reach: float, *, marker: str | None) -> None:
    """Draw logarithms on a plain axis, since its ticks are chosen here."""
    at = np.array([lag.lag for lag in lags], dtype=float)
    values = {
        name: np.array([_log(getattr(lag, name)) for lag in lags])
        for name in ("rr", "ci_low", "ci_high", "band_low", "band_high")
    }
    for side in (at < 0, at > 0):
        part = {name: value[side] for name, value in values.items()}
        if not side.any():
            continue
        if marker:
            axes.fill_between(at[side], part["band_low"], part["band_high"], color=BAND, linewidth=0)
            axes.vlines(at[side], part["ci_low"], part["ci_high"], color=CURVE, linewidth=1.4)
        axes.plot(at[side], part["rr"], color=CURVE, linewidth=0.9, marker=marker, markersize=3)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.axvline(0, color=INK, linewidth=0.6, linestyle=(0, (3, 2)))
    axes.set_ylim(-math.log(reach), math.log(reach))
    shown = [tick for tick in TICKS if 1 / reach <= tick <= reach and (reach < 2 or tick not in (0.9, 1.1))]
    axes.set_yticks([math.log(tick) for tick in shown], [f"{tick:g}" for tick in shown])
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(False)


def _log(value: float | None) -> float:
    return math.nan if value is None else math.log(min(max(value, LOWEST / 2), HIGHEST * 2))


def _draw_map(figure: Any, cells: Sequence[Cell], place: tuple[float, float, float, float]) -> None:
    from matplotlib.patches import PathPatch, Rectangle

    axes = figure.add_axes(place)
    axes.set_axis_off()
    axes.set_aspect("equal")
    outlines = cell_outlines(cells)
    lowest = [low for low, _, _ in CLASSES]
    classes = np.searchsorted(lowest, [cell.n_anchor for cell in cells], side="right") - 1
    edge = {"edgecolor": "#5a6a7a", "linewidth": 0.4}
    for number, (_, colour, _) in enumerate(CLASSES):
        if path := _joined([outlines[i] for i in np.flatnonzero(classes == number)]):
            axes.add_artist(PathPatch(path, facecolor=colour, **edge))
    if outlines:
        corners = np.vstack(outlines)
        (west, south), (east, north) = corners.min(axis=0), corners.max(axis=0)
        km = next(km for km in (50, 20, 10, 5, 2, 1) if km <= max((east - west) / 2, 1))
        axes.plot([west, west + km], [south - 0.4, south - 0.4], color=INK, linewidth=1.2)
        axes.text(west, south - 0.6, f"{km} km", verticalalignment="top")
        axes.set_xlim(west - 0.5, east + 0.5)
        axes.set_ylim(south - 0.5 - 0.12 * (north - south), north + 0.5)
    # By hand: matplotlib's legend takes as long as the map.
    width, height = figure.get_size_inches()
    left, top = place[0] + place[2] + 0.15 / width, place[1] + place[3] - 0.2 / height
    figure.text(left, top, "first reports")
    for number, (_, colour, label) in enumerate(CLASSES, start=1):
        bottom = top - 0.2 * number / height
        figure.add_artist(Rectangle((left, bottom), 0.2 / width, 0.12 / height, facecolor=colour, **edge))
        figure.text(left + 0.3 / width, bottom, label)


def cell_outlines(cells: Sequence[Cell]) -> list[np.ndarray]:
    """Return each cell's outline in kilometres east and north of their common middle, shape (corners, 2).

    What is no cell of the H3 grid has no outline; then none has one.
    """
    import shapely
    from h3ronpy.vector import cells_to_wkb_polygons

    if not cells:
        return []
    try:
        outlines = cells_to_wkb_polygons(np.array([cell.h3_7 for cell in cells], dtype=np.uint64))
    except ValueError:
        return []
    degrees, of_cell = shapely.get_coordinates(shapely.from_wkb(outlines.to_pylist()), return_index=True)
    middle = (degrees.min(axis=0) + degrees.max(axis=0)) / 2
    scale = KM_PER_DEGREE * np.array([math.cos(math.radians(middle[1])), 1.0])
    return np.split((degrees - middle) * scale, np.flatnonzero(np.diff(of_cell)) + 1)


def _joined(outlines: Sequence[np.ndarray]) -> Any:
    """Return outlines as one path, or None: a path for each of hundreds of cells would be most of a page."""
    from matplotlib.path import Path

    if not outlines:
        return None
    codes = np.concatenate(
        [[Path.MOVETO, *[Path.LINETO] * (len(outline) - 2), Path.CLOSEPOLY] for outline in outlines]
    )
    return Path(np.vstack(outlines), codes)
