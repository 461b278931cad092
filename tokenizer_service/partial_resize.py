"""The part of a resized picture that a crop keeps, by Pillow, without most of what it cuts off."""

import itertools
import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from tokenizer_service.resampling import FILTERS, weight_table

RunAll = Callable[[Callable[..., Any], Iterable[Any]], Iterable[Any]]
"""As the built-in `map`; that of an executor begins at once, beside its caller."""

# Source pixels of a strip; fewer take less time (0.4 ms) than is worth a thread's wake-up.
_MIN_STRIP_PIXELS = 64 * 1024
_MAX_STRIPS = 3


def resize_part(
    image: Image.Image,
    size: tuple[int, int],
    corner: tuple[int, int],
    part: tuple[int, int],
    resample: int,
    run_all: RunAll = map,
) -> np.ndarray:  # [*part, 3] uint8
    """What a crop leaves of `image.resize(size)`, bit for bit.

    Pillow resizes each row first, then each column, and rounds in between; so do the strips. It begins with
    the columns instead where the height shrinks by over twice the pixels that the width does (Pillow 13,
    Resample.c), or shrinks at all and is over 100 times the width (12.2 and 12.3). Neither can be where
    height <= width and the height keeps as great a share of its pixels as the width: it then shrinks by no
    more pixels than the width. That is so of all pictures at least as wide as high that keep their
    proportions; of no others are strips made.

    Args:
        image: An RGB picture.
        size: Rows and columns of the whole result.
        corner: Row and column at which the part begins.
        part: Its rows and columns, all of them inside the whole.
        resample: Pillow's number of the filter.
        run_all: Runs what computes strips of the part, but the first.
    """
    num_strips = min(_MAX_STRIPS, max(1, image.width * image.height // _MIN_STRIP_PIXELS))
    resampling, whole = Image.Resampling(resample), ((0, size[1]),)
    is_wide = image.height <= image.width and image.height * size[1] <= image.width * size[0]
    columns = spans(image.width, size[1], corner[1], part[1], resample, num_strips) if is_wide else whole

    def strip(span: tuple[int, int]) -> np.ndarray:
        left, right = (each * image.width // size[1] for each in span)
        box, new_width = (left, 0, right, image.height), span[1] - span[0]
        if span != whole[0]:
            rows = image.resize((new_width, image.height), resample=resampling, box=box)
            return np.asarray(rows.resize((new_width, size[0]), resample=resampling))
        return np.asarray(image.resize((size[1], size[0]), resample=resampling))

    others = run_all(strip, columns[1:])
    strips = [strip(columns[0]), *others]
    row, column = corner[0], corner[1] - columns[0][0]
    return np.concatenate(strips, axis=1)[row : row + part[0], column : column + part[1]]


@lru_cache(maxsize=1024)
def spans(
    num_source: int, num_places: int, first: int, count: int, resample: int, most: int
) -> tuple[tuple[int, int], ...]:
    """Runs of places along one axis, one behind the other, which hold those from `first` to `first + count`.

    Each begins and ends between pixels of the source, and from that box Pillow makes what it makes of the
    whole. Up to `most` runs; where there are none, all places in one.
    """
    step = num_places // math.gcd(num_source, num_places)
    begin, end = first // step, -(-(first + count) // step)
    num_runs = min(most, end - begin)
    cuts = [step * (begin + i * (end - begin) // num_runs) for i in range(num_runs + 1)]
    found, whole = tuple(itertools.pairwise(cuts)), ((0, num_places),)
    if found == whole or resample not in FILTERS:
        return whole
    return found if all(_is_alike(num_source, num_places, *each, resample) for each in found) else whole


def _is_alike(num_source: int, num_places: int, begin: int, end: int, resample: int) -> bool:
    """Whether Pillow's weights, which are rounded on the way, are the same in the box as in the whole."""
    left, right = begin * num_source // num_places, end * num_source // num_places
    whole = weight_table(num_source, 0.0, num_source / num_places, range(begin, end), resample)
    scale = (right - left) / (end - begin)
    part = weight_table(num_source, float(left), scale, range(end - begin), resample)
    return all(np.array_equal(*pair) for pair in zip(whole, part, strict=True))
