"""Rate ratios of groups of block sums with delete-one-cell intervals; verdicts on them are in `inference`."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

#: With fewer outcomes in both windows together no ratio is published.
MIN_OUTCOMES = 50
#: With fewer effective degrees of freedom an interval tells about a few hot cells only.
MIN_DF = 8
#: Two or three cells can make the quantile, and so the interval, larger than a float.
MAX_LOG_MARGIN = 500.0


@dataclass(frozen=True)
class Ratio:
    """A rate ratio with its delete-one-cell jackknife interval; all NaN where it is not defined."""

    rr: float
    ci_low: float
    ci_high: float
    p_value: float
    se_log: float
    df: float


UNDEFINED = Ratio(*[float("nan")] * 6)


def mantel_haenszel(num: np.ndarray, den: np.ndarray) -> Ratio:
    """Return sum(num) / sum(den) with a 95 % delete-one-cell jackknife interval on the log scale.

    Args:
        num: Numerator sum of each H3-7 cell, shape (cells,).
        den: Denominator sum of each cell, same shape.
    """
    return cell_ratios(np.zeros(len(num), int), num, den, n_groups=1)[0]


def group_ratios(
    group: np.ndarray, cell: np.ndarray, num: np.ndarray, den: np.ndarray, *, n_groups: int
) -> list[Ratio]:
    """Return the ratio of each group of blocks; what belongs to one cell is added up first.

    Args:
        group: Number of the group of each block, from 0 to n_groups - 1, shape (blocks,).
        cell: H3-7 cell of each block.
        num: Numerator of each block.
        den: Denominator of each block.
        n_groups: Number of groups; one without a block has no ratio.
    """
    of_cell, rows = number_groups(group, cell)
    sums = (np.bincount(of_cell, weights=values, minlength=len(rows)) for values in (num, den))
    return cell_ratios(group[rows], *sums, n_groups=n_groups)


def cell_ratios(group: np.ndarray, num: np.ndarray, den: np.ndarray, *, n_groups: int) -> list[Ratio]:
    """Return the ratio of each group of cells, see `mantel_haenszel`.

    Cells are dependent inside and a few hot ones dominate, so the t quantile uses an effective number of
    cells; cluster-robust errors with G - 1 degrees of freedom had twice the nominal rate of p < .005.

    Args:
        group: Number of the group of each cell, shape (cells,).
        num: Numerator sum of each cell.
        den: Denominator sum of each cell.
        n_groups: Number of groups.
    """
    used = (num != 0) | (den != 0)
    group, num, den = group[used], num[used], den[used]

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, weights=values, minlength=n_groups)

    total_num, total_den, cells = total(num), total(den), np.bincount(group, minlength=n_groups)
    without_num, without_den = total_num[group] - num, total_den[group] - den
    weights = np.abs(num) + np.abs(den)
    with np.errstate(invalid="ignore", divide="ignore"):
        log_rr = np.log(total_num / total_den)
        deviations = np.log(without_num / without_den) - log_rr[group]
        se_log = np.sqrt((cells - 1) / cells * total(deviations**2))
        df = total(weights) ** 2 / total(weights**2) - 1
    is_carried_by_one = total((without_num <= 0) | (without_den <= 0)) > 0
    is_defined = (
        (cells >= 2) & (total_num > 0) & (total_den > 0) & ~is_carried_by_one & (se_log > 0) & (df > 0)
    )
    log_rr, se_log, df = (np.where(is_defined, values, np.nan) for values in (log_rr, se_log, df))
    margin = np.minimum(stats.t.ppf(0.975, df) * se_log, MAX_LOG_MARGIN)
    p_value = 2 * stats.t.sf(np.abs(log_rr) / se_log, df)
    columns = (np.exp(log_rr), np.exp(log_rr - margin), np.exp(log_rr + margin), p_value, se_log, df)
    return [Ratio(*row) for row in np.array(columns).T.tolist()]


def number_groups(*columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the combinations of values in sorted order.

    Rows that follow each other with the same values are taken together first: blocks come in order, and
    sorting every row's strings would cost more than all the statistics.

    Args:
        columns: Arrays of one length.

    Returns:
        The number of each row's combination, and for each combination the index of a row that has it.
    """
    is_start = np.ones(len(columns[0]), bool)
    is_start[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
    starts = np.flatnonzero(is_start)
    code = np.zeros(len(starts), np.int64)
    for column in columns:
        values, of_start = np.unique(column[starts], return_inverse=True)
        code = code * max(len(values), 1) + of_start
    _, first, of_start = np.unique(code, return_index=True, return_inverse=True)
    return np.repeat(of_start, np.diff(starts, append=len(is_start))), starts[first]


def is_sufficient(d0: int, d1: int, ratio: Ratio) -> bool:
    """Return whether there are outcomes and cells enough to publish a ratio."""
    return d0 + d1 >= MIN_OUTCOMES and ratio.df >= MIN_DF


def known(value: float) -> float | None:
    """Return the number, None in place of NaN and infinity."""
    return float(value) if np.isfinite(value) else None
