"""Rows of the embedding table by token id."""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tandem_kernels.dependent_launch import has_dependent_launch
from tandem_kernels.row_tiles import row_tile


def embedding(
    token_ids: torch.Tensor,  # [T]
    weight: torch.Tensor,  # [vocab_size, hidden_size], contiguous
) -> torch.Tensor:  # [T, hidden_size]
    """See `reference.embedding`. One program a token."""
    assert weight.is_contiguous()
    hidden_size = weight.shape[1]
    out = torch.empty(len(token_ids), hidden_size, dtype=weight.dtype, device=weight.device)
    block_size, num_warps = row_tile(hidden_size)
    is_dependent = has_dependent_launch(weight)
    _embedding_kernel[(len(token_ids),)](
        token_ids, weight, out, hidden_size, block_size, is_dependent,
        num_warps=num_warps, launch_pdl=is_dependent,
    )  # fmt: skip
    return out


@triton.jit
def _embedding_kernel(
    token_ids: tl.tensor,  # [T]
    weight: tl.tensor,  # [vocab_size, SIZE]
    out: tl.tensor,  # [T, SIZE]
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    if IS_DEPENDENT:
        # In this order: kernels that begin after this one find complete what came before it, as the plan.
        gdc_wait()
        gdc_launch_dependents()
    token = tl.program_id(0).to(tl.int64)
    row = tl.load(token_ids + token).to(tl.int64)
    columns = tl.arange(0, BLOCK_SIZE)
    mask = columns < SIZE
    tl.store(out + token * SIZE + columns, tl.load(weight + row * SIZE + columns, mask=mask), mask=mask)
