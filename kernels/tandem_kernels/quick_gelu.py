"""CLIP's activation."""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tandem_kernels.dependent_launch import has_dependent_launch

_BLOCK_SIZE = 2048


def quick_gelu(
    x: torch.Tensor,  # [...], contiguous
) -> torch.Tensor:  # the shape of x
    """See `reference_vision.quick_gelu`; rounded once, at the end."""
    assert x.is_contiguous()
    out = torch.empty_like(x)
    is_dependent = has_dependent_launch(x)
    _quick_gelu_kernel[(triton.cdiv(x.numel(), _BLOCK_SIZE),)](
        x, out, x.numel(), _BLOCK_SIZE, is_dependent, num_warps=8, launch_pdl=is_dependent
    )
    return out


@triton.jit
def _quick_gelu_kernel(
    x: tl.tensor,  # [num_values]
    out: tl.tensor,  # [num_values]
    num_values: int,
    BLOCK_SIZE: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    if IS_DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()
    places = tl.program_id(0).to(tl.int64) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = places < num_values
    value = tl.load(x + places, mask=mask, other=0.0).to(tl.float32)
    gated = value / (1.0 + tl.exp(-1.702 * value))
    tl.store(out + places, gated.to(out.dtype.element_ty), mask=mask)
