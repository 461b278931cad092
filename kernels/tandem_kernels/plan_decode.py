"""Spreading the contexts of a decode step over the workers of its attention; see `decode_plan`."""

import torch
import triton
import triton.language as tl

from tandem_kernels.decode_plan import BLOCK_N, MIN_TILES, DecodePlan

_BLOCK_W = 8


def plan_decode(
    context_lens: torch.Tensor,  # [B]
    plan: DecodePlan,  # overwritten
) -> DecodePlan:
    """Spreads the contexts of a step's sequences over the plan's workers, and returns the plan."""
    capacity, num_workers = plan.arrivals.shape[0], plan.first_seqs.shape[0]
    assert context_lens.shape[0] <= capacity
    _plan_kernel[(triton.cdiv(num_workers, _BLOCK_W),)](
        context_lens,
        plan.tile_starts,
        plan.first_seqs,
        context_lens.shape[0],
        num_workers,
        BLOCK_N=BLOCK_N,
        MIN_TILES=MIN_TILES,
        BLOCK_B=triton.next_power_of_2(capacity),
        BLOCK_W=_BLOCK_W,
    )
    return plan


@triton.jit
def stretch_of(num_tiles: tl.tensor, num_workers: tl.tensor, MIN_TILES: tl.constexpr) -> tl.tensor:
    """Tiles of each worker's stretch."""
    return tl.maximum(tl.cdiv(num_tiles, num_workers), MIN_TILES)


@triton.jit(do_not_specialize=["num_seqs", "num_workers"])
def _plan_kernel(
    context_lens: tl.tensor,  # [num_seqs]
    tile_starts: tl.tensor,  # [num_seqs + 1]
    first_seqs: tl.tensor,  # [num_workers]
    num_seqs: int,
    num_workers: int,
    BLOCK_N: tl.constexpr,
    MIN_TILES: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_W: tl.constexpr,
) -> None:
    seqs = tl.arange(0, BLOCK_B)
    context_len = tl.load(context_lens + seqs, mask=seqs < num_seqs, other=0).to(tl.int32)
    # An empty context gets a tile too: somebody must write its zeros.
    tiles = tl.where(seqs < num_seqs, tl.maximum(tl.cdiv(context_len, BLOCK_N), 1), 0)
    ends = tl.cumsum(tiles, 0)
    if tl.program_id(0) == 0:
        tl.store(tile_starts + 1 + seqs, ends, mask=seqs < num_seqs)
    workers = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    begins = workers * stretch_of(tl.sum(tiles, 0), num_workers, MIN_TILES)
    num_passed = tl.sum((ends[None, :] <= begins[:, None]).to(tl.int32), 1)
    tl.store(first_seqs + workers, num_passed, mask=workers < num_workers)
