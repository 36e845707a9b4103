"""Areas and pieces of assets against the cells of a square grid, in numpy; reading and writing is cover's.

Corners of areas are snapped to a lattice of 2^-11 m (half a millimetre), as the macros in `places.sql` snap
points, and reference points lie half a step off it. So every sign in the parity test is exact in 64-bit
floats for edges up to 16 km (26-bit differences, 53-bit sums of products), no reference point shares a
coordinate with a corner, and a point on a border that two areas share lies in exactly one: left and lower
borders are part of an area, right and upper ones are not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely

CELL_M = 100
SNAPS_PER_M = 2048

#: Candidate pairs held in memory at a time, about 100 bytes each.
CHUNK_PAIRS = 500_000

# A cell key made from floats may be rounded across a cell border: cells this close count as reached.
_MARGIN_M = 1e-3
_COLUMN_STEP = 4_000_000


def cell_keys(column: np.ndarray, row: np.ndarray) -> np.ndarray:
    """Return the keys of cells, as the macro `grid_cell` makes them from metres."""
    return column.astype(np.int64) * _COLUMN_STEP + row.astype(np.int64)


def area_edges(area: shapely.Geometry) -> np.ndarray:
    """Return the snapped edges of a (multi)polygon in metres: x1, y1, x2, y2, upward or to the right."""
    rings = shapely.get_rings(shapely.get_parts(area))
    corners, ring = shapely.get_coordinates(rings, return_index=True)
    corners = np.floor(corners * SNAPS_PER_M + 0.5) / SNAPS_PER_M
    edges = np.hstack([corners[:-1], corners[1:]])[ring[:-1] == ring[1:]]
    x1, y1, x2, y2 = edges.T
    is_backward = (y2 < y1) | ((y2 == y1) & (x2 < x1))
    edges[is_backward] = edges[is_backward][:, [2, 3, 0, 1]]
    return edges[(x1 != x2) | (y1 != y2)]


@dataclass(frozen=True)
class AreaCover:
    """The cells of one area, those wholly inside first, then those that an edge touches.

    Attributes:
        cell: Keys of the cells.
        ref_x, ref_y: A point of a touched cell off every edge, metres; NaN for cells inside.
        ref_inside: Whether that point lies in the area; True for cells inside.
        edge: Numbers of the edges that touch a cell, one entry per (edge, cell).
        edge_cell: Keys of those cells.
    """

    cell: np.ndarray
    ref_x: np.ndarray
    ref_y: np.ndarray
    ref_inside: np.ndarray
    edge: np.ndarray
    edge_cell: np.ndarray


def cover_area(edges: np.ndarray) -> AreaCover:
    """Find the cells that lie wholly inside an area and those that its edges (from `area_edges`) touch."""
    if len(edges) == 0:
        nothing, no_cells = np.empty(0), np.empty(0, dtype=np.int64)
        return AreaCover(no_cells, nothing, nothing, nothing.astype(bool), no_cells, no_cells)
    near = _near_cells(*edges.T, reach_m=0.0)
    edge, column, row = (np.concatenate(values) for values in zip(*near, strict=True))
    edge_cell = cell_keys(column, row)
    cell, first, which = np.unique(edge_cell, return_index=True, return_inverse=True)
    column, row = column[first], row[first]

    half_step = 0.5 / SNAPS_PER_M
    ref_x = column * CELL_M + CELL_M / 2 + half_step
    ref_y = row * CELL_M + CELL_M / 2 + half_step
    while len(on_edge := np.unique(which[_side(edges[edge].T, ref_x[which], ref_y[which]) == 0])):
        ref_x[on_edge] += 1 / SNAPS_PER_M

    inside = _cells_inside(column, row, edges)
    unset, is_in = np.full(len(inside), np.nan), np.ones(len(inside), dtype=bool)
    return AreaCover(
        cell=np.concatenate([inside, cell]),
        ref_x=np.concatenate([unset, ref_x]),
        ref_y=np.concatenate([unset, ref_y]),
        ref_inside=np.concatenate([is_in, is_inside(ref_x, ref_y, edges)]),
        edge=edge,
        edge_cell=edge_cell,
    )


def is_inside(x: np.ndarray, y: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return whether points lie in the area of some edges: even-odd, left and lower borders are in."""
    first, last = (_cell_numbers(edges[:, index]) for index in (1, 3))
    edge, step = _spread(last - first + 1)
    row = first[edge] + step
    order = np.argsort(row, kind="stable")
    edge, row = edge[order], row[order]
    own_row = _cell_numbers(y)
    start = np.searchsorted(row, own_row, "left")
    counts = np.searchsorted(row, own_row, "right") - start
    inside = np.zeros(len(x), dtype=bool)
    for part in _slices(counts):
        point, step = _spread(counts[part])
        point += part.start
        near = edges[edge[start[point] + step]].T
        is_crossed = ((near[1] > y[point]) != (near[3] > y[point])) & (_side(near, x[point], y[point]) > 0)
        inside[part] = np.bincount(point[is_crossed] - part.start, minlength=len(counts[part])) % 2 == 1
    return inside


def cells_within_reach(
    x1: np.ndarray, y1: np.ndarray, x2: np.ndarray, y2: np.ndarray, reach_m: float
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield numbers of pieces and cell keys: every cell with a point within reach of a segment or point."""
    for piece, column, row in _near_cells(x1, y1, x2, y2, reach_m=reach_m):
        yield piece, cell_keys(column, row)


def _near_cells(x1, y1, x2, y2, *, reach_m: float) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    reach = reach_m + _MARGIN_M
    left, bottom = (_cell_numbers(np.minimum(start, stop) - reach) for start, stop in ((x1, x2), (y1, y2)))
    right, top = (_cell_numbers(np.maximum(start, stop) + reach) for start, stop in ((x1, x2), (y1, y2)))
    width = right - left + 1
    counts = width * (top - bottom + 1)
    for part in _slices(counts):
        piece, step = _spread(counts[part])
        piece += part.start
        column = left[piece] + step % width[piece]
        row = bottom[piece] + step // width[piece]
        distance = _distance_to_cell(
            x1[piece], y1[piece], x2[piece], y2[piece], column * CELL_M, row * CELL_M
        )
        is_near = distance <= reach
        yield piece[is_near], column[is_near], row[is_near]


def _cell_numbers(metres: np.ndarray) -> np.ndarray:
    return np.floor(metres / CELL_M).astype(np.int64)


def _distance_to_cell(x1, y1, x2, y2, left, bottom) -> np.ndarray:
    """Return the distance of segments to the cells with these lower left corners, 0 where they meet."""
    right, top = left + CELL_M, bottom + CELL_M
    distance2 = np.minimum(
        *(
            np.maximum(np.maximum(left - x, x - right), 0.0) ** 2
            + np.maximum(np.maximum(bottom - y, y - top), 0.0) ** 2
            for x, y in ((x1, y1), (x2, y2))
        )
    )
    # What follows is only for segments: a point's distance to a cell is known by now.
    dx, dy = x2 - x1, y2 - y1
    length2 = dx**2 + dy**2
    long = np.flatnonzero(length2 > 0)
    x1, y1, x2, y2, dx, dy, length2 = (values[long] for values in (x1, y1, x2, y2, dx, dy, length2))
    left, bottom, right, top = (values[long] for values in (left, bottom, right, top))
    nearest2 = distance2[long]
    for x, y in ((left, bottom), (left, top), (right, bottom), (right, top)):
        along = np.clip(((x - x1) * dx + (y - y1) * dy) / length2, 0.0, 1.0)
        nearest2 = np.minimum(nearest2, (x - x1 - along * dx) ** 2 + (y - y1 - along * dy) ** 2)
    middle = np.abs(dx * (bottom + CELL_M / 2 - y1) - dy * (left + CELL_M / 2 - x1))
    meets = (
        (middle <= CELL_M / 2 * (np.abs(dx) + np.abs(dy)))
        & (np.minimum(x1, x2) <= right)
        & (np.maximum(x1, x2) >= left)
        & (np.minimum(y1, y2) <= top)
        & (np.maximum(y1, y2) >= bottom)
    )
    distance2[long] = np.where(meets, 0.0, nearest2)
    return np.sqrt(distance2)


def _cells_inside(column: np.ndarray, row: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the keys of untouched cells inside, given the touched cells sorted by column and then by row.

    Every run of untouched cells between two touched ones of a column is wholly in or wholly out, and a cell
    inside always has a touched one below it and above it.
    """
    is_run = (column[1:] == column[:-1]) & (row[1:] - row[:-1] > 1)
    run_column, run_row = column[:-1][is_run], row[:-1][is_run] + 1
    length = row[1:][is_run] - run_row
    inside = is_inside(run_column * CELL_M + CELL_M / 2, run_row * CELL_M + CELL_M / 2, edges)
    run, step = _spread(length[inside])
    return cell_keys(run_column[inside][run], run_row[inside][run] + step)


def _side(edges, x, y) -> np.ndarray:
    """Return a number over 0 where a point is left of (or above) its upward edge, 0 on it."""
    x1, y1, x2, y2 = edges
    return (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)


def _spread(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Repeat each index as often as its count says, and number the repetitions from 0."""
    index = np.repeat(np.arange(len(counts)), counts)
    return index, np.arange(len(index)) - np.repeat(np.cumsum(counts) - counts, counts)


def _slices(counts: np.ndarray) -> Iterator[slice]:
    """Cut a sequence so that the counts of a slice add up to CHUNK_PAIRS or less, or are a single one."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = total[start - 1] if start else 0
        stop = max(int(np.searchsorted(total, before + CHUNK_PAIRS, "right")), start + 1)
        yield slice(start, stop)
        start = stop
