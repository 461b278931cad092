"""Pillow's resampling along one axis, for a few places of a long result."""

import math
from collections.abc import Callable

import numpy as np

# Pillow's fixed point for 8-bit channels (Resample.c): weights are rounded to this many bits.
_PRECISION_BITS = 32 - 8 - 2


def _bilinear(x: float) -> float:
    x = abs(x)
    return 1.0 - x if x < 1.0 else 0.0


def _bicubic(x: float) -> float:
    """Keys' cubic convolution (1981) with a = -0.5, in Pillow's order of operations."""
    a = -0.5
    x = abs(x)
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    if x < 2.0:
        return (((x - 5) * x + 8) * x - 4) * a
    return 0.0


FILTERS: dict[int, tuple[Callable[[float], float], float]] = {2: (_bilinear, 1.0), 3: (_bicubic, 2.0)}
"""Weight and support of the filters that are known here, by Pillow's number."""


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
    weight, support = FILTERS[resample]
    scale = rows.shape[0] / num_rows
    filter_scale = max(scale, 1.0)
    places = range(first, first + count)
    result = np.empty((count, *rows.shape[1:]), np.uint8)
    for i, place in enumerate(places):
        center = (place + 0.5) * scale
        low = max(0, int(center - support * filter_scale + 0.5))
        high = min(rows.shape[0], int(center + support * filter_scale + 0.5))
        weights = [weight((x - center + 0.5) * (1.0 / filter_scale)) for x in range(low, high)]
        total = 0.0
        for each in weights:
            total += each
        fixed = [_fixed(each / total if total else each) for each in weights]
        summed = np.tensordot(np.array(fixed, np.int64), rows[low:high].astype(np.int64), 1)
        result[i] = ((summed + (1 << (_PRECISION_BITS - 1))) >> _PRECISION_BITS).clip(0, 255)
    return result


def _fixed(weight: float) -> int:
    """Rounded half away from zero."""
    return math.trunc(weight * (1 << _PRECISION_BITS) + math.copysign(0.5, weight))
