"""Spreading the contexts of a decode step over the workers of its attention; see `decode_plan`."""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tandem_kernels.decode_plan import NUM_COLUMNS, DecodePlan
from tandem_kernels.dependent_launch import has_dependent_launch

# Stretches have two tiles at least, or one where the longest context has this many, but not that many. Below,
# a merge costs more than the second tile; from there on, the merge of so many pieces does. One sequence on an
# H200, 32 heads over 8, in stretches of one tile and of two: heads of 64, 6 tiles: 4.8 and 5.5 µs, 16 tiles:
# 5.9 and 6.0; heads of 128, 31 tiles: 8.8 and 7.2.
SPLIT_FROM, SPLIT_BELOW = 3, 16
# By how much stretches may be longer so that each sequence begins at the start of one; a power of 2 less 1.
MAX_LONGER = 3
_BLOCK_W = 8
_NUM_COLUMNS = tl.constexpr(NUM_COLUMNS)


def plan_decode(
    context_lens: torch.Tensor,  # [B]
    rows: torch.Tensor,  # [B], each sequence's row of the block tables
    plan: DecodePlan,  # overwritten
) -> DecodePlan:
    """Spreads the contexts of a step's sequences over the plan's workers, and returns the plan.

    Everything that the attention reads, apart from the newest token of each sequence, is to be written
    before: its kernel begins to read as soon as the plan is there.
    """
    capacity, num_workers = plan.arrivals.shape[0], plan.worker_pieces.shape[0]
    assert context_lens.shape[0] <= capacity
    is_dependent = has_dependent_launch(context_lens)
    _plan_kernel[(triton.cdiv(num_workers, _BLOCK_W),)](
        context_lens,
        rows,
        plan.worker_pieces,
        plan.seq_pieces,
        context_lens.shape[0],
        num_workers,
        TILE_TOKENS=plan.tile_tokens,
        SPLIT_FROM=SPLIT_FROM,
        SPLIT_BELOW=SPLIT_BELOW,
        MAX_LONGER=MAX_LONGER,
        BLOCK_B=triton.next_power_of_2(capacity),
        BLOCK_W=_BLOCK_W,
        IS_DEPENDENT=is_dependent,
        launch_pdl=is_dependent,
    )
    return plan


@triton.jit(do_not_specialize=["num_seqs", "num_workers"])
def _plan_kernel(
    context_lens: tl.tensor,  # [num_seqs]
    rows: tl.tensor,  # [num_seqs]
    worker_pieces: tl.tensor,  # [num_workers, NUM_COLUMNS]
    seq_pieces: tl.tensor,  # [num_seqs, NUM_COLUMNS]
    num_seqs: int,
    num_workers: int,
    TILE_TOKENS: tl.constexpr,
    SPLIT_FROM: tl.constexpr,
    SPLIT_BELOW: tl.constexpr,
    MAX_LONGER: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_W: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    if IS_DEPENDENT:
        gdc_wait()
    seqs = tl.arange(0, BLOCK_B)
    is_seq = seqs < num_seqs
    context_len = tl.load(context_lens + seqs, mask=is_seq, other=0).to(tl.int32)
    row = tl.load(rows + seqs, mask=is_seq, other=0)
    tiles = tl.where(is_seq, _num_tiles(context_len, TILE_TOKENS), 0)
    stretch, is_aligned = _stretch(tiles, num_workers, SPLIT_FROM, SPLIT_BELOW, MAX_LONGER)
    places = tl.where(is_aligned, tl.cdiv(tiles, stretch) * stretch, tiles)
    ends = tl.cumsum(places, 0)
    starts = ends - places
    if tl.program_id(0) == 0:
        at = seq_pieces + seqs * _NUM_COLUMNS
        _store_piece(at, seqs, row, context_len, starts, starts, tiles, stretch, 0, is_seq)

    workers = tl.program_id(0) * BLOCK_W + tl.arange(0, BLOCK_W)
    begins = workers * stretch
    is_worker = workers < num_workers
    is_busy = begins < tl.sum(places, 0)
    seq = tl.sum((ends[None, :] <= begins[:, None]).to(tl.int32), 1)
    has_begun = (starts[None, :] < (begins + stretch)[:, None]) & is_seq[None, :]
    num_pieces = tl.where(is_busy, tl.sum(has_begun.to(tl.int32), 1) - seq, 0)
    start = tl.max(tl.where(starts[None, :] <= begins[:, None], starts[None, :], 0), 1)
    mask = is_worker & is_busy
    context_len = tl.load(context_lens + seq, mask=mask, other=0).to(tl.int32)
    row = tl.load(rows + seq, mask=mask, other=0)
    at = worker_pieces + workers * _NUM_COLUMNS
    tiles = _num_tiles(context_len, TILE_TOKENS)
    _store_piece(at, seq, row, context_len, begins, start, tiles, stretch, num_pieces, is_worker)
    if IS_DEPENDENT:
        # The attention reads pieces before it waits, so they are in L2 before any later kernel begins.
        tl.inline_asm_elementwise(
            "fence.acq_rel.gpu; mov.u32 $0, 0;", "=r", [], dtype=tl.int32, is_pure=False, pack=1
        )
        tl.debug_barrier()
        gdc_launch_dependents()


@triton.jit
def _num_tiles(context_len: tl.tensor, TILE_TOKENS: tl.constexpr) -> tl.tensor:
    # An empty context gets a tile too: somebody must write its zeros.
    return tl.maximum(tl.cdiv(context_len, TILE_TOKENS), 1)


@triton.jit
def _stretch(
    tiles: tl.tensor,  # [BLOCK_B]
    num_workers: int,
    SPLIT_FROM: tl.constexpr,
    SPLIT_BELOW: tl.constexpr,
    MAX_LONGER: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """Tiles of each worker's stretch, and whether sequences begin at the start of one."""
    longest = tl.max(tiles, 0)
    shortest = tl.where((longest >= SPLIT_FROM) & (longest < SPLIT_BELOW), 1, 2)
    shortest = tl.maximum(tl.cdiv(tl.sum(tiles, 0), num_workers), shortest)
    stretches = shortest + tl.arange(0, MAX_LONGER + 1)
    num_pieces = tl.sum(tl.cdiv(tiles[:, None], stretches[None, :]), 0)
    aligned = tl.min(tl.where(num_pieces <= num_workers, stretches, shortest + MAX_LONGER + 1), 0)
    is_aligned = aligned <= shortest + MAX_LONGER
    return tl.where(is_aligned, aligned, shortest), is_aligned


@triton.jit
def _store_piece(
    at: tl.tensor,  # [N]
    seq: tl.tensor,  # [N]
    row: tl.tensor,  # [N]
    context_len: tl.tensor,  # [N]
    begin: tl.tensor,  # [N], of the piece on the line
    start: tl.tensor,  # [N], of its sequence on the line
    tiles: tl.tensor,  # [N], of its sequence
    stretch: tl.tensor,
    num_pieces: tl.tensor,
    mask: tl.tensor,  # [N]
) -> None:
    end = tl.minimum((begin // stretch + 1) * stretch - start, tiles)
    tl.store(at, seq, mask=mask)
    tl.store(at + 1, row, mask=mask)
    tl.store(at + 2, context_len, mask=mask)
    tl.store(at + 3, begin - start, mask=mask)
    tl.store(at + 4, end, mask=mask)
    tl.store(at + 5, start // stretch, mask=mask)
    tl.store(at + 6, (start + tiles - 1) // stretch, mask=mask)
    tl.store(at + 7, num_pieces, mask=mask)
