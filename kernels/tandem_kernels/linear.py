"""x @ weight.T of a few rows, alone, of the norm of x, or added to what is there."""

import functools

import torch
import triton
import triton.language as tl

from tandem_kernels.dependent_launch import has_dependent_launch
from tandem_kernels.norm_input import norm_input
from tandem_kernels.projection_tiles import Tile
from tandem_kernels.row_products import await_inputs, row_products

_MAX_PROGRAMS = 1 << 14


def linear(
    x: torch.Tensor,  # [T, K], contiguous
    weight: torch.Tensor,  # [N, K], contiguous
    out: torch.Tensor,  # [T, N], contiguous; written, or added to
    tile: Tile,
    norm_weight: torch.Tensor | None = None,  # [K]
    eps: float = 0.0,
    is_added: bool = False,
) -> None:
    """out = x @ weight.T, or that of `rms_norm(x, norm_weight, eps)`, or out += it.

    Where the tile splits K, each program leaves its part in a workspace, and the last to arrive at its
    rows adds the parts in their order: results repeat bit for bit.
    """
    assert x.is_contiguous()
    assert weight.is_contiguous()
    assert out.is_contiguous()
    assert tile.split_k == 1 or norm_weight is None
    (num_tokens, size), num_rows = x.shape, weight.shape[0]
    assert num_tokens <= tile.block_m
    is_dependent = has_dependent_launch(x)
    constants = kernel_constants(size, num_rows, tile, norm_weight is not None, is_added, is_dependent)
    grid = (triton.cdiv(num_rows, tile.rows), constants["SPLIT_K"])
    parts, arrivals = out, out
    if grid[1] > 1:
        assert grid[0] <= _MAX_PROGRAMS
        parts = torch.empty(grid[1], num_rows, tile.block_m, dtype=torch.float32, device=x.device)
        arrivals = _arrivals(x.device)
    _linear_kernel[grid](
        x, x if norm_weight is None else norm_weight, weight, out, parts, arrivals, eps, num_tokens,
        **constants, num_warps=tile.num_warps, num_stages=tile.num_stages, launch_pdl=is_dependent,
    )  # fmt: skip


def norm_linear(
    residual: torch.Tensor,  # [T, K], contiguous
    norm_weight: torch.Tensor,  # [K]
    eps: float,
    weight: torch.Tensor,  # [N, K], contiguous
    out: torch.Tensor,  # [T, N], contiguous; written
    tile: Tile,
) -> None:
    """out = rms_norm(residual, norm_weight, eps) @ weight.T"""
    x, has_norm = norm_input(residual, norm_weight, eps, tile)
    linear(x, weight, out, tile, norm_weight if has_norm else None, eps)


@functools.cache
def _arrivals(device: torch.device) -> torch.Tensor:  # [_MAX_PROGRAMS] int32
    """Programs that have left their part, by row block; zero between launches."""
    return torch.zeros(_MAX_PROGRAMS, dtype=torch.int32, device=device)


def kernel_constants(
    size: int, num_rows: int, tile: Tile, has_norm: bool, is_added: bool, is_dependent: bool
) -> dict[str, int]:
    """The kernel's compile-time arguments."""
    constants = tile.constants(size)
    return constants | {
        "NUM_ROWS": num_rows,
        "SPLIT_K": triton.cdiv(size, constants["LENGTH"]),
        "HAS_NORM": has_norm,
        "IS_ADDED": is_added,
        "IS_DEPENDENT": is_dependent,
    }


@triton.jit(do_not_specialize=["num_tokens"])
def _linear_kernel(
    x: tl.tensor,  # [num_tokens, K]
    norm_weight: tl.tensor,  # [K]
    weight: tl.tensor,  # [NUM_ROWS, K]
    out: tl.tensor,  # [num_tokens, NUM_ROWS]
    parts: tl.tensor,  # [SPLIT_K, NUM_ROWS, BLOCK_M] float32
    arrivals: tl.tensor,  # [row blocks]
    eps: float,
    num_tokens: int,
    K: tl.constexpr,
    LENGTH: tl.constexpr,
    NUM_ROWS: tl.constexpr,
    SPLIT_K: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    HAS_NORM: tl.constexpr,
    IS_ADDED: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    inside = tl.minimum(rows, NUM_ROWS - 1).to(tl.int64)
    begin = tl.program_id(1) * LENGTH
    tile = await_inputs(weight, inside, begin, LENGTH, K, BLOCK_M, BLOCK_K, IS_DEPENDENT)
    tokens = tl.arange(0, BLOCK_M)[None, :]
    mask = (rows[:, None] < NUM_ROWS) & (tokens < num_tokens)
    at = out + tokens.to(tl.int64) * NUM_ROWS + rows[:, None]
    if IS_ADDED:
        # On its way while the products are made.
        before = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    else:
        before = tl.zeros([ROWS, BLOCK_M], tl.float32)
    products = row_products(
        tile, x, norm_weight, eps, weight, inside, num_tokens, begin, LENGTH, K, BLOCK_M, BLOCK_K, HAS_NORM
    )
    if SPLIT_K == 1:
        tl.store(at, (before + products).to(out.dtype.element_ty), mask=mask)
    else:
        part_at = parts + rows.to(tl.int64)[:, None] * BLOCK_M + tokens
        tl.store(part_at + tl.program_id(1) * (NUM_ROWS * BLOCK_M), products, mask=mask)
        # All threads' parts are written before one of them reports it.
        tl.debug_barrier()
        if tl.atomic_add(arrivals + tl.program_id(0), 1, sem="acq_rel") == SPLIT_K - 1:
            tl.store(arrivals + tl.program_id(0), 0)
            total = tl.zeros([ROWS, BLOCK_M], tl.float32)
            for split in tl.static_range(SPLIT_K):
                # Other SMs wrote these: .cg passes this SM's cache by.
                part = part_at + split * (NUM_ROWS * BLOCK_M)
                total += tl.load(part, mask=mask, other=0.0, cache_modifier=".cg")
            tl.store(at, (before + total).to(out.dtype.element_ty), mask=mask)
