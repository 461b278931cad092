"""The next token of each sequence, each by its own rules, in two launches: `sample_scan`, `sample_pick`."""

import torch
import triton

from tandem_kernels.sample_pick import _pick_kernel
from tandem_kernels.sample_scan import _scan_kernel
from tandem_kernels.sequence_state import StateLayout

# Logits of one program of the scan, those whose peak is noted together, and those of a step of the pick.
TILE = 4096
GROUP = 64
PICK_TILE = 2048
SCAN_WARPS = 8
PICK_WARPS = 16
# So that four programs of the scan are resident on an SM, 64 KiB of logits on their way, and two of the pick.
MAX_REGISTERS = 64


def sample(
    logits: torch.Tensor,  # [B, vocab_size] float32, contiguous
    adjusted: torch.Tensor,  # like logits; rows with penalties, biases or forbidden stops are overwritten
    rows: torch.Tensor,  # [B] int32, each sequence's row of state and token_counts
    positions: torch.Tensor,  # [B] int32, index in its sequence of the token to draw
    state: torch.Tensor,  # [num_rows, row_size] int32, by `layout`; the new tokens are written
    token_counts: torch.Tensor,  # [num_rows, vocab_size] int32; counts the new tokens
    layout: StateLayout,
) -> torch.Tensor:  # [B] int32
    """See `reference_sample.sample`."""
    assert logits.is_contiguous()
    assert adjusted.is_contiguous()
    assert token_counts.is_contiguous()
    assert logits.data_ptr() % 16 == adjusted.data_ptr() % 16 == 0
    num_seqs, vocab_size = logits.shape
    num_tiles = triton.cdiv(vocab_size, TILE)

    def room(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        return torch.empty(num_seqs, *shape, dtype=dtype, device=logits.device)

    tables = (logits, adjusted, rows, positions, state, token_counts)
    best = room(num_tiles), room(num_tiles, dtype=torch.int32)
    peaks, sums = room(num_tiles), room(num_tiles)
    group_peaks = room(num_tiles * (TILE // GROUP))
    _scan_kernel[(num_tiles, num_seqs)](
        *tables, *best, peaks, sums, group_peaks, layout.row_size,
        **scan_constants(vocab_size, layout), num_warps=SCAN_WARPS, maxnreg=MAX_REGISTERS,
    )  # fmt: skip
    drawn = room(dtype=torch.int32)
    group_lists = torch.empty_like(group_peaks, dtype=torch.int32)
    _pick_kernel[(num_seqs,)](
        *tables, *best, peaks, sums, group_peaks, group_lists, drawn, num_tiles, layout.row_size,
        **pick_constants(vocab_size), num_warps=PICK_WARPS, maxnreg=MAX_REGISTERS,
    )  # fmt: skip
    return drawn


def scan_constants(vocab_size: int, layout: StateLayout) -> dict[str, int]:
    """The scan's compile-time arguments."""
    return {
        "VOCAB_SIZE": vocab_size,
        "STOP_IDS": layout.stop_ids,
        "BIAS_IDS": layout.bias_ids,
        "BIAS_VALUES": layout.bias_values,
        "TILE": TILE,
        "GROUP": GROUP,
    }


def pick_constants(vocab_size: int) -> dict[str, int]:
    """The pick's compile-time arguments."""
    block_tiles = triton.next_power_of_2(triton.cdiv(vocab_size, TILE))
    return {
        "VOCAB_SIZE": vocab_size,
        "TILE_GROUPS": TILE // GROUP,
        "GROUP": GROUP,
        "BLOCK_TILES": block_tiles,
        "LIST_TILE": PICK_TILE // GROUP,
    }
