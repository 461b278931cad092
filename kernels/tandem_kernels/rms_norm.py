"""Root-mean-square norm of rows, alone or together with the addition to the residual stream."""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tandem_kernels.dependent_launch import has_dependent_launch
from tandem_kernels.row_tiles import row_tile


def rms_norm(
    x: torch.Tensor,  # [T, size] or [T, heads, size], the last axis contiguous
    weight: torch.Tensor,  # [size]
    eps: float,
) -> torch.Tensor:  # the shape of x, contiguous
    """See `reference.rms_norm`. One program a row."""
    assert x.stride(-1) == 1
    rows = x if x.dim() == 3 else x.unsqueeze(1)
    num_tokens, num_heads, size = rows.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block_size, num_warps = row_tile(size)
    is_dependent = has_dependent_launch(x)
    _rms_norm_kernel[(num_tokens, num_heads)](
        rows, weight, out, rows.stride(0), rows.stride(1), eps, size, block_size, is_dependent,
        num_warps=num_warps, launch_pdl=is_dependent,
    )  # fmt: skip
    return out


def add_rms_norm(
    x: torch.Tensor,  # [T, size], the last axis contiguous
    residual: torch.Tensor,  # [T, size], the last axis contiguous; overwritten with x + residual
    weight: torch.Tensor,  # [size]
    eps: float,
) -> torch.Tensor:  # [T, size]
    """See `reference.add_rms_norm`. One program a row."""
    assert x.stride(-1) == residual.stride(-1) == 1
    num_tokens, size = x.shape
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block_size, num_warps = row_tile(size)
    is_dependent = has_dependent_launch(x)
    _add_rms_norm_kernel[(num_tokens,)](
        x, residual, weight, out, x.stride(0), residual.stride(0), eps, size, block_size, is_dependent,
        num_warps=num_warps, launch_pdl=is_dependent,
    )  # fmt: skip
    return out


@triton.jit
def _scale(
    at: tl.tensor,  # [BLOCK_SIZE] addresses
    mask: tl.tensor,  # [BLOCK_SIZE]
    IS_DEPENDENT: tl.constexpr,
) -> tl.tensor:  # [BLOCK_SIZE]
    """The norm's weight, asked for before the kernel before this one has ended."""
    if IS_DEPENDENT:
        gdc_launch_dependents()
    scale = tl.load(at, mask=mask, other=0.0)
    if IS_DEPENDENT:
        gdc_wait()
    return scale


@triton.jit
def _normalized(
    row: tl.tensor,  # [BLOCK_SIZE] float32, 0 behind the row's end
    weight: tl.tensor,  # [BLOCK_SIZE]
    eps: float,
    SIZE: tl.constexpr,
) -> tl.tensor:  # [BLOCK_SIZE] float32
    """The norm, rounded to the weight's type before the weight applies, as transformers does."""
    scaled = row * tl.rsqrt(tl.sum(row * row, axis=0) / SIZE + eps)
    return scaled.to(weight.dtype).to(tl.float32) * weight.to(tl.float32)


@triton.jit
def _rms_norm_kernel(
    x: tl.tensor,  # [T, heads, SIZE]
    weight: tl.tensor,  # [SIZE]
    out: tl.tensor,  # [T, heads, SIZE], contiguous
    x_token_stride: int,
    x_head_stride: int,
    eps: float,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    columns = tl.arange(0, BLOCK_SIZE)
    mask = columns < SIZE
    scale = _scale(weight + columns, mask, IS_DEPENDENT)
    row = tl.load(x + token * x_token_stride + head * x_head_stride + columns, mask=mask, other=0.0)
    normalized = _normalized(row.to(tl.float32), scale, eps, SIZE)
    out_row = out + (token * tl.num_programs(1) + head) * SIZE
    tl.store(out_row + columns, normalized.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _add_rms_norm_kernel(
    x: tl.tensor,  # [T, SIZE]
    residual: tl.tensor,  # [T, SIZE]
    weight: tl.tensor,  # [SIZE]
    out: tl.tensor,  # [T, SIZE], contiguous
    x_stride: int,
    residual_stride: int,
    eps: float,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    token = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_SIZE)
    mask = columns < SIZE
    scale = _scale(weight + columns, mask, IS_DEPENDENT)
    added = tl.load(x + token * x_stride + columns, mask=mask, other=0.0)
    stream = residual + token * residual_stride + columns
    row = added.to(tl.float32) + tl.load(stream, mask=mask, other=0.0).to(tl.float32)
    rounded = row.to(residual.dtype.element_ty)
    tl.store(stream, rounded, mask=mask)
    normalized = _normalized(rounded.to(tl.float32), scale, eps, SIZE)
    tl.store(out + token * SIZE + columns, normalized.to(out.dtype.element_ty), mask=mask)
