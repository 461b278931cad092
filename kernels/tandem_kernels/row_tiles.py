"""Tile sizes of kernels whose program holds a whole row."""

import triton


def row_tile(size: int) -> tuple[int, int]:
    """The tile's length for rows of `size` elements, and its warps: 16 bytes of float16 a thread."""
    block = triton.next_power_of_2(size)
    return block, min(max(block // 256, 1), 16)
