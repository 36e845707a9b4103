"""The faults real portals have, put into clean rows and counted; the feeds choose theirs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        kind: Its name in truth/dirt.json.
        share: Share of the rows that get it; at least one row does.
        spoil: Changes the given rows (all columns text) in place.
        is_copy: The spoiled row comes on top of the clean one, which stays.
    """

    kind: str
    share: float
    spoil: Callable[[pd.DataFrame, np.random.Generator], None]
    is_copy: bool = False


@dataclass
class Ledger:
    """Which records were spoiled how: rows of (feed, part, kind, key), the key empty where there is none."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, feed: str, part: str, kind: str, keys: Sequence[str | None]) -> None:
        """Note one spoiled record per key."""
        self.rows += [(feed, part, kind, key or "") for key in keys]

    def counts(self) -> dict[str, dict[str, dict[str, int]]]:
        """Return the number of spoiled records by feed, part and kind."""
        counts: dict[str, dict[str, dict[str, int]]] = {}
        for feed, part, kind, _ in self.rows:
            kinds = counts.setdefault(feed, {}).setdefault(part, {})
            kinds[kind] = kinds.get(kind, 0) + 1
        return counts


def spoiled(
    table: pa.Table,
    key: str,
    faults: Sequence[Fault],
    rng: np.random.Generator,
    ledger: Ledger,
    feed: str,
    part: str,
) -> pa.Table:
    """Return the rows with every fault on rows of its own; copies are put anywhere after their originals.

    Args:
        table: Clean rows, all columns text.
        key: The column that identifies a row; the ledger keeps it as it was before the fault.
        faults: What to spoil.
        rng: Chooses the rows.
        ledger: Gets one entry per spoiled row.
        feed: For the ledger.
        part: For the ledger.
    """
    rows = table.num_rows
    counts = [max(1, round(fault.share * rows)) for fault in faults]
    if sum(counts) > rows:
        raise ValueError(f"{feed}/{part} has {rows} rows, too few for {sum(counts)} faults; raise the scale")
    chosen = np.split(rng.permutation(rows)[: sum(counts)], np.cumsum(counts)[:-1])
    pieces, order, extra, at = [table], np.arange(rows), [], rows
    for fault, index in zip(faults, chosen, strict=True):
        frame = table.take(index).to_pandas().astype(object)
        ledger.add(feed, part, fault.kind, frame[key].tolist())
        fault.spoil(frame, rng)
        pieces.append(pa.Table.from_pandas(frame, schema=table.schema, preserve_index=False))
        places = np.arange(at, at + index.size)
        if fault.is_copy:
            extra.append((index, places))
        else:
            order[index] = places
        at += index.size
    if extra:
        originals, copies = (np.concatenate(column) for column in zip(*extra, strict=True))
        # A copy comes later than its original: what comes last is what holds.
        order = np.insert(order, rng.integers(originals + 1, rows + 1), copies)
    return pa.concat_tables(pieces).take(order)


def put(column: str, *values: str | None) -> Callable[[pd.DataFrame, np.random.Generator], None]:
    """Return a fault that writes one of the values into a column."""

    def spoil(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame[column] = [values[i] for i in rng.integers(0, len(values), len(frame))]

    return spoil


def put_all(**values: str | None) -> Callable[[pd.DataFrame, np.random.Generator], None]:
    """Return a fault that writes a value into each of several columns."""

    def spoil(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        for column, value in values.items():
            frame[column] = value

    return spoil


def untouched(frame: pd.DataFrame, rng: np.random.Generator) -> None:
    """Leave the rows as they are: an exact repeat."""


def swap(first: str, second: str) -> Callable[[pd.DataFrame, np.random.Generator], None]:
    """Return a fault that swaps two columns."""

    def spoil(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame[first], frame[second] = frame[second].copy(), frame[first].copy()

    return spoil


def odd_spelling(column: str) -> Callable[[pd.DataFrame, np.random.Generator], None]:
    """Return a fault that changes case and spaces but not the words."""

    def spoil(frame: pd.DataFrame, rng: np.random.Generator) -> None:
        frame[column] = "  " + frame[column].str.upper().str.replace(" ", "  ") + " "

    return spoil


def location_faults(
    x: str,
    y: str,
    outside: tuple[str, str],
    default: tuple[str, str],
    *,
    can_swap: bool = True,
    factor: float = 1.0,
) -> list[Fault]:
    """Return the ways a point goes wrong.

    Args:
        x: Column of longitude or easting.
        y: Column of latitude or northing.
        outside: A point outside the city, as text.
        default: The point to which the portal's geocoder sends what it cannot place.
        can_swap: Whether swapped axes can be told (degrees) or not.
        factor: Multiplies all shares.
    """
    faults = [
        Fault("missing_point", 0.008 * factor, put_all(**{x: None, y: None})),
        Fault("zero_point", 0.001 * factor, put_all(**{x: "0", y: "0"})),
        Fault("outside_city", 0.0008 * factor, put_all(**{x: outside[0], y: outside[1]})),
        Fault("default_point", 0.002 * factor, put_all(**{x: default[0], y: default[1]})),
    ]
    return [*faults, Fault("swapped_point", 0.0008 * factor, swap(x, y))] if can_swap else faults
