"""One image as the engine takes it."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Pixels:
    """An image after resize and crop, before normalization.

    Attributes:
        sha256: The hash of `data`, 32 bytes.
        height: Rows.
        width: Columns.
        data: uint8 values, [height, width, 3], red first.
    """

    sha256: bytes
    height: int
    width: int
    data: bytes


def hashed_pixels(height: int, width: int, data: bytes) -> Pixels:
    """Pixels with their hash."""
    return Pixels(hashlib.sha256(data).digest(), height, width, data)
