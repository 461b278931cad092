"""The gate of the feed-forward part."""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tandem_kernels.dependent_launch import has_dependent_launch

_BLOCK_SIZE = 1024


def silu_mul(
    gate_up: torch.Tensor,  # [T, 2 * size]: gates, then ups; the last axis contiguous
) -> torch.Tensor:  # [T, size]
    """See `reference.silu_mul`; the product is rounded once, not after silu already."""
    assert gate_up.stride(-1) == 1
    num_tokens, size = gate_up.shape[0], gate_up.shape[1] // 2
    out = torch.empty(num_tokens, size, dtype=gate_up.dtype, device=gate_up.device)
    grid = (num_tokens, triton.cdiv(size, _BLOCK_SIZE))
    is_dependent = has_dependent_launch(gate_up)
    _silu_mul_kernel[grid](
        gate_up, out, gate_up.stride(0), size, _BLOCK_SIZE, is_dependent, num_warps=4, launch_pdl=is_dependent
    )
    return out


@triton.jit
def _silu_mul_kernel(
    gate_up: tl.tensor,  # [T, 2 * SIZE]
    out: tl.tensor,  # [T, SIZE], contiguous
    gate_up_stride: int,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    if IS_DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()
    token = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = columns < SIZE
    gates = gate_up + token * gate_up_stride + columns
    gate = tl.load(gates, mask=mask, other=0.0).to(tl.float32)
    up = tl.load(gates + SIZE, mask=mask, other=0.0).to(tl.float32)
    product = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out + token * SIZE + columns, product.to(out.dtype.element_ty), mask=mask)
