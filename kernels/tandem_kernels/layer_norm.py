"""Layer norm of rows, alone or together with the addition to the residual stream."""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tandem_kernels.dependent_launch import has_dependent_launch
from tandem_kernels.row_tiles import row_tile


def layer_norm(
    x: torch.Tensor,  # [..., size], contiguous
    weight: torch.Tensor,  # [size]
    bias: torch.Tensor,  # [size]
    eps: float,
) -> torch.Tensor:  # the shape of x
    """See `reference_vision.layer_norm`. One program a row."""
    return _launch(x, x, weight, bias, eps, adds=False)


def add_layer_norm(
    x: torch.Tensor,  # [..., size], contiguous
    residual: torch.Tensor,  # [..., size], contiguous; overwritten with x + residual
    weight: torch.Tensor,  # [size]
    bias: torch.Tensor,  # [size]
    eps: float,
) -> torch.Tensor:  # the shape of x
    """See `reference_vision.add_layer_norm`. One program a row."""
    return _launch(x, residual, weight, bias, eps, adds=True)


def _launch(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    eps: float,
    *,
    adds: bool,
) -> torch.Tensor:
    assert x.is_contiguous()
    assert residual.is_contiguous()
    out = torch.empty_like(x)
    size = x.shape[-1]
    block_size, num_warps = row_tile(size)
    is_dependent = has_dependent_launch(x)
    _layer_norm_kernel[(x.numel() // size,)](
        x, residual, weight, bias, out, eps, size, block_size, adds, is_dependent,
        num_warps=num_warps, launch_pdl=is_dependent,
    )  # fmt: skip
    return out


@triton.jit
def _layer_norm_kernel(
    x: tl.tensor,  # [T, SIZE]
    residual: tl.tensor,  # [T, SIZE]
    weight: tl.tensor,  # [SIZE]
    bias: tl.tensor,  # [SIZE]
    out: tl.tensor,  # [T, SIZE]
    eps: float,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    ADDS: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    if IS_DEPENDENT:
        gdc_launch_dependents()
    columns = tl.arange(0, BLOCK_SIZE)
    mask = columns < SIZE
    scale = tl.load(weight + columns, mask=mask, other=0.0).to(tl.float32)
    shift = tl.load(bias + columns, mask=mask, other=0.0).to(tl.float32)
    if IS_DEPENDENT:
        gdc_wait()
    places = tl.program_id(0).to(tl.int64) * SIZE + columns
    row = tl.load(x + places, mask=mask, other=0.0).to(tl.float32)
    if ADDS:
        total = row + tl.load(residual + places, mask=mask, other=0.0).to(tl.float32)
        rounded = total.to(residual.dtype.element_ty)
        tl.store(residual + places, rounded, mask=mask)
        row = rounded.to(tl.float32)
    centered = tl.where(mask, row - tl.sum(row, axis=0) / SIZE, 0.0)
    normalized = centered * tl.rsqrt(tl.sum(centered * centered, axis=0) / SIZE + eps)
    tl.store(out + places, (normalized * scale + shift).to(out.dtype.element_ty), mask=mask)
