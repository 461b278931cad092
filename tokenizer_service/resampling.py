"""Pillow's resampling along one axis: its weights, and a few places of a long result."""

from collections.abc import Callable

import numpy as np

# Pillow's fixed point for 8-bit channels (Resample.c): weights are rounded to this many bits.
_PRECISION_BITS = 32 - 8 - 2


def _bilinear(x: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    return np.where(x < 1.0, 1.0 - x, 0.0)


def _bicubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution (1981) with a = -0.5, in Pillow's order of operations."""
    a = -0.5
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


FILTERS: dict[int, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    2: (_bilinear, 1.0),
    3: (_bicubic, 2.0),
}
"""Weights and support of the filters that are known here, by Pillow's number."""


def weight_table(
    num_source: int, origin: float, scale: float, places: range, resample: int
) -> tuple[np.ndarray, np.ndarray]:  # [num_places] int64, [num_places, num_weights] int64
    """How Pillow makes places of a result from a source along one axis, bit for bit.

    Args:
        num_source: Pixels of the source.
        origin: Where in the source place 0 begins.
        scale: Pixels of the source for each place.
        places: Those to tell of.
        resample: Pillow's number of the filter, one of FILTERS.

    Returns:
        The first source pixel of each place, and the weights of it and those behind it in fixed point; 0
        behind the last one.
    """
    weight, support = FILTERS[resample]
    stretch = max(scale, 1.0)
    centers = origin + (np.arange(places.start, places.stop) + 0.5) * scale
    low = np.maximum((centers - support * stretch + 0.5).astype(np.int64), 0)
    high = np.minimum((centers + support * stretch + 0.5).astype(np.int64), num_source)
    pixels = low[:, None] + np.arange((high - low).max())
    weights = weight((pixels - centers[:, None] + 0.5) * (1.0 / stretch))
    weights[pixels >= high[:, None]] = 0.0
    total = np.zeros(len(low))
    for column in weights.T:  # one after the other, as Pillow rounds
        total += column
    shares = weights / np.where(total == 0.0, 1.0, total)[:, None]
    # Rounded half away from zero.
    fixed = np.trunc(shares * (1 << _PRECISION_BITS) + np.copysign(0.5, shares))
    return low, fixed.astype(np.int64)


def resample_rows(
    rows: np.ndarray,  # [num_rows, ...] uint8
    num_rows: int,
    first: int,
    count: int,
    resample: int,
) -> np.ndarray:  # [count, ...] uint8
    """Rows `first` to `first + count` of what Pillow would make of `rows` with `num_rows` rows, bit for bit.

    The whole result of a thin picture may take gigabytes: 1 x 4000 pixels at 336 are 336 x 1,344,000.
    """
    scale = rows.shape[0] / num_rows
    lows, table = weight_table(rows.shape[0], 0.0, scale, range(first, first + count), resample)
    result = np.empty((count, *rows.shape[1:]), np.uint8)
    for i, (low, weights) in enumerate(zip(lows, table, strict=True)):
        taken = rows[low : low + len(weights)].astype(np.int64)
        summed = np.tensordot(weights[: len(taken)], taken, 1)
        result[i] = ((summed + (1 << (_PRECISION_BITS - 1))) >> _PRECISION_BITS).clip(0, 255)
    return result
