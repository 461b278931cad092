"""How prefill attention is cut, by head size, device and load, as `prefill_sweep` has measured it."""

from dataclasses import dataclass

import torch

FEW_TOKENS = 1024
"""Tokens of a step up to which programs wait for memory more than for each other."""


@dataclass(frozen=True)
class TileShape:
    """How the kernel is cut.

    Attributes:
        block_m: Queries of a program.
        block_n: Keys of a tile.
        num_warps: Of a program.
        num_stages: Of the pipeline; the lookup in the block table takes every other one.
        max_registers: Of a thread; None leaves it to the compiler.
    """

    block_m: int
    block_n: int
    num_warps: int
    num_stages: int
    max_registers: int | None = None


def tile_shape(
    head_dim: int, dtype: torch.dtype, *, is_hopper: bool, is_fresh: bool, is_large: bool
) -> TileShape:
    """Tiles that fit into registers and, beside others, into shared memory.

    Args:
        head_dim: Of queries, keys and values.
        dtype: Of all of them.
        is_hopper: Whether the device has Hopper's tensor cores.
        is_fresh: Whether keys and values are read beside the queries.
        is_large: Whether there is work for all of the device, so that programs hide each other's waits.
    """
    if dtype == torch.float32:
        return TileShape(32, 32, 4, 2)
    if not is_hopper:
        # Before Hopper the queries are in registers: 64 keys of size 128 beside them would spill.
        return TileShape(128, 64 if head_dim <= 64 else 32, 8, 5)
    # Several programs fit an SM: one does its softmax while another multiplies.
    if head_dim <= 64:
        return TileShape(64, 64, 4, 2, 128) if is_large else TileShape(128, 64, 8, 5, 128)
    if head_dim < 128 or is_fresh or not is_large:
        return TileShape(64, 64, 4, 3)
    # For a second program on each SM it spills 60 bytes, and takes 293 us where 64 rows take 340.
    return TileShape(128, 64, 8, 3, 128)
