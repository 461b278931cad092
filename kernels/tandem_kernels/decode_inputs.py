"""What a decode step computes, read from the state table."""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tandem_kernels.dependent_launch import has_dependent_launch
from tandem_kernels.sequence_state import Column, StateLayout

_BLOCK_B = 64


def decode_inputs(
    state: torch.Tensor,  # [num_rows, row_size] int32, by `layout`
    rows: torch.Tensor,  # [B] int32
    context_lens: torch.Tensor,  # [B] int32, with the token to compute; 0 for a row of padding
    layout: StateLayout,
    kv_block_size: int,
) -> torch.Tensor:  # [3, B] int32: token ids, positions, slots
    """See `reference.decode_inputs`."""
    num_seqs = len(rows)
    # Each part begins at 16 bytes: kernels are compiled for where their arguments begin.
    out = torch.empty(3, triton.cdiv(num_seqs, 4) * 4, dtype=torch.int32, device=state.device)
    is_dependent = has_dependent_launch(state)
    _decode_inputs_kernel[(triton.cdiv(num_seqs, _BLOCK_B),)](
        state, rows, context_lens, out, num_seqs, layout.row_size, out.stride(0),
        int(Column.LAST_TOKEN), layout.block_table, kv_block_size, _BLOCK_B, is_dependent,
        num_warps=2, launch_pdl=is_dependent,
    )  # fmt: skip
    return out[:, :num_seqs]


@triton.jit(do_not_specialize=["num_seqs", "row_size", "out_stride"])
def _decode_inputs_kernel(
    state: tl.tensor,  # [num_rows, row_size]
    rows: tl.tensor,  # [num_seqs]
    context_lens: tl.tensor,  # [num_seqs]
    out: tl.tensor,  # [3, num_seqs]
    num_seqs: int,
    row_size: int,
    out_stride: int,
    LAST_TOKEN: tl.constexpr,
    BLOCK_TABLE: tl.constexpr,
    KV_BLOCK_SIZE: tl.constexpr,
    BLOCK_B: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    if IS_DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()
    seqs = tl.program_id(0) * BLOCK_B + tl.arange(0, BLOCK_B)
    mask = seqs < num_seqs
    row = state + tl.load(rows + seqs, mask=mask, other=0).to(tl.int64) * row_size
    position = tl.maximum(tl.load(context_lens + seqs, mask=mask, other=0) - 1, 0)
    block = tl.load(row + BLOCK_TABLE + position // KV_BLOCK_SIZE, mask=mask, other=0)
    tl.store(out + seqs, tl.load(row + LAST_TOKEN, mask=mask, other=0), mask=mask)
    tl.store(out + out_stride + seqs, position, mask=mask)
    tl.store(out + 2 * out_stride + seqs, block * KV_BLOCK_SIZE + position % KV_BLOCK_SIZE, mask=mask)
