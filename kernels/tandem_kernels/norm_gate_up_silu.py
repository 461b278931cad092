"""The first half of the feed-forward part: norm, gate and up projections, silu(gate) * up."""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from tandem_kernels.dependent_launch import has_dependent_launch
from tandem_kernels.gate_up_silu import gate_up_silu, has_gate_up_silu
from tandem_kernels.norm_input import norm_input
from tandem_kernels.projection_tiles import Tile, projection_tile
from tandem_kernels.rms_norm import rms_norm
from tandem_kernels.row_products import await_inputs, row_products
from tandem_kernels.silu_mul import silu_mul


def norm_gate_up_silu(
    residual: torch.Tensor,  # [T, hidden_size], contiguous
    norm_weight: torch.Tensor,  # [hidden_size]
    eps: float,
    gate_up_weight: torch.Tensor,  # [2 * size, hidden_size]: gates, then ups; contiguous
) -> torch.Tensor:  # [T, size]
    """See `reference.norm_gate_up_silu`."""
    tile = projection_tile("norm_gate_up_silu", residual, gate_up_weight)
    if tile is None:
        x = rms_norm(residual, norm_weight, eps)
        if has_gate_up_silu(x, gate_up_weight):
            return gate_up_silu(x, gate_up_weight)
        return silu_mul(F.linear(x, gate_up_weight))
    return fused_norm_gate_up_silu(residual, norm_weight, eps, gate_up_weight, tile)


def fused_norm_gate_up_silu(
    residual: torch.Tensor,  # [T, hidden_size], contiguous
    norm_weight: torch.Tensor,  # [hidden_size]
    eps: float,
    gate_up_weight: torch.Tensor,  # [2 * size, hidden_size], contiguous
    tile: Tile,
) -> torch.Tensor:  # [T, size]
    """The same in one kernel; a program owns gates and the ups that belong to them."""
    assert residual.is_contiguous()
    assert gate_up_weight.is_contiguous()
    num_tokens, size = residual.shape[0], gate_up_weight.shape[0] // 2
    assert num_tokens <= tile.block_m
    out = torch.empty(num_tokens, size, dtype=residual.dtype, device=residual.device)
    x, has_norm = norm_input(residual, norm_weight, eps, tile)
    is_dependent = has_dependent_launch(x)
    _norm_gate_up_silu_kernel[(triton.cdiv(size, tile.rows // 2),)](
        x, norm_weight, gate_up_weight, out, eps, num_tokens,
        **kernel_constants(x.shape[1], size, tile, has_norm, is_dependent),
        num_warps=tile.num_warps, num_stages=tile.num_stages, launch_pdl=is_dependent,
    )  # fmt: skip
    return out


def kernel_constants(
    hidden_size: int, size: int, tile: Tile, has_norm: bool, is_dependent: bool
) -> dict[str, int]:
    """The kernel's compile-time arguments."""
    return tile.constants(hidden_size) | {"SIZE": size, "HAS_NORM": has_norm, "IS_DEPENDENT": is_dependent}


@triton.jit(do_not_specialize=["num_tokens"])
def _norm_gate_up_silu_kernel(
    x: tl.tensor,  # [num_tokens, K]
    norm_weight: tl.tensor,  # [K]
    weight: tl.tensor,  # [2 * SIZE, K]
    out: tl.tensor,  # [num_tokens, SIZE]
    eps: float,
    num_tokens: int,
    K: tl.constexpr,
    LENGTH: tl.constexpr,
    SIZE: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    HAS_NORM: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    # Rows alternate: a gate, its up.
    HALF: tl.constexpr = ROWS // 2
    first = tl.program_id(0) * HALF
    lanes = tl.arange(0, ROWS)
    rows = (tl.minimum(first + lanes // 2, SIZE - 1) + lanes % 2 * SIZE).to(tl.int64)
    tile = await_inputs(weight, rows, 0, LENGTH, K, BLOCK_M, BLOCK_K, IS_DEPENDENT)
    products = row_products(
        tile, x, norm_weight, eps, weight, rows, num_tokens, 0, LENGTH, K, BLOCK_M, BLOCK_K, HAS_NORM
    )
    gate, up = products.reshape([HALF, 2, BLOCK_M]).permute(0, 2, 1).split()
    product = gate / (1.0 + tl.exp(-gate)) * up
    columns = first + tl.arange(0, HALF)[:, None]
    tokens = tl.arange(0, BLOCK_M)[None, :]
    mask = (columns < SIZE) & (tokens < num_tokens)
    tl.store(out + tokens * SIZE + columns, product.to(out.dtype.element_ty), mask=mask)
