"""The plan of a decode step: which worker attends to which part of which context.

A decode step reads all keys and values once and computes little, so the work is spread by bytes. The
contexts are cut into tiles of tokens, the tiles of all sequences are laid on one line, and every worker
takes a stretch of equal length: sequences of any mix of lengths keep all workers equally busy. The
number of workers is fixed, so that a captured graph never depends on lengths; where the stretches begin
is computed on the device, once a step for all layers.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

BLOCK_N = 32
# A shorter stretch would cost more at the merge than it saves.
MIN_TILES = 4
# As many as are resident: 128 threads of 128 registers each.
PROGRAMS_PER_SM = 4
_BLOCK_W = 8


@dataclass(frozen=True)
class DecodePlan:
    """How one decode step is spread over workers, and the room for the results of its pieces.

    Attributes:
        tile_starts: [max_num_seqs + 1] int32, where each sequence begins on the line of tiles, and its end.
        first_seqs: [num_workers] int32, the sequence in which each worker's stretch begins.
        piece_out: [num_workers + max_num_seqs, H, D] float32, attention within a piece.
        piece_lse: [num_workers + max_num_seqs, H] float32, log2 of the sum of a piece's weights.
        arrivals: [max_num_seqs, G] int32, finished pieces; zero between launches.
    """

    tile_starts: torch.Tensor
    first_seqs: torch.Tensor
    piece_out: torch.Tensor
    piece_lse: torch.Tensor
    arrivals: torch.Tensor


def empty_plan(
    max_num_seqs: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    device: torch.device,
    num_programs: int | None = None,
) -> DecodePlan:
    """Allocates a plan; `plan_decode` fills it.

    Args:
        max_num_seqs: Most sequences of a step.
        num_heads: Query heads.
        num_kv_heads: Key-value heads.
        head_dim: Size of a head.
        device: Of the plan.
        num_programs: Programs of the attention's grid; four for each SM where None.
    """
    num_workers = max(1, (num_programs or _num_programs(device)) // num_kv_heads)
    num_slots = num_workers + max_num_seqs
    return DecodePlan(
        tile_starts=torch.zeros(max_num_seqs + 1, dtype=torch.int32, device=device),
        first_seqs=torch.empty(num_workers, dtype=torch.int32, device=device),
        piece_out=torch.empty(num_slots, num_heads, head_dim, dtype=torch.float32, device=device),
        piece_lse=torch.empty(num_slots, num_heads, dtype=torch.float32, device=device),
        arrivals=torch.zeros(max_num_seqs, num_kv_heads, dtype=torch.int32, device=device),
    )


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


def _num_programs(device: torch.device) -> int:
    if device.type != "cuda":
        return 8
    return PROGRAMS_PER_SM * int(torch.cuda.get_device_properties(device).multi_processor_count)


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
