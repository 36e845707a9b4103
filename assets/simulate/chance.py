"""One independent random stream per named step; how the streams are used belongs to the steps."""

from zlib import crc32

import numpy as np


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the generator of a named step, so that adding a step changes no other step's draws."""
    return np.random.default_rng([seed, crc32(name.encode())])


def pick(rng: np.random.Generator, weights: np.ndarray, count: int) -> np.ndarray:
    """Return `count` indices drawn in proportion to `weights` (any shape, read flat)."""
    cumulative = np.cumsum(weights, axis=None)
    return np.searchsorted(cumulative, rng.random(count) * cumulative[-1], side="right").clip(
        0, cumulative.size - 1
    )
