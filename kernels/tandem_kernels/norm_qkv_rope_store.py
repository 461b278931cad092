"""From the residual stream to attention: norm, QKV projection, rotary positions, write into the cache."""

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from tandem_kernels.dependent_launch import has_dependent_launch
from tandem_kernels.head_norm_rope_store import head_norm_rope_store
from tandem_kernels.linear import norm_linear
from tandem_kernels.norm_input import norm_input
from tandem_kernels.projection_tiles import Tile, projection_tile
from tandem_kernels.rms_norm import rms_norm
from tandem_kernels.rope_store import rope_store
from tandem_kernels.row_products import await_inputs, row_products


def norm_qkv_rope_store(
    residual: torch.Tensor,  # [T, hidden_size], contiguous
    norm_weight: torch.Tensor,  # [hidden_size]
    eps: float,
    qkv_weight: torch.Tensor,  # [(H + 2G) * D, hidden_size], contiguous
    qkv_bias: torch.Tensor | None,  # [(H + 2G) * D]
    q_norm: torch.Tensor | None,  # [D]
    k_norm: torch.Tensor | None,  # [D]
    positions: torch.Tensor,  # [T]
    cos_sin: torch.Tensor,  # [context_length, D] float32, contiguous
    k_cache: torch.Tensor,  # [N, S, G, D], contiguous; written
    v_cache: torch.Tensor,  # [N, S, G, D], contiguous; written
    slot_mapping: torch.Tensor,  # [T]
) -> tuple[torch.Tensor, torch.Tensor | None]:  # [T, H, D], the last axis contiguous; [T, 2G, D], likewise
    """See `reference.norm_qkv_rope_store`."""
    tile = projection_tile("norm_qkv_rope_store", residual, qkv_weight)
    places = positions, cos_sin, k_cache, v_cache, slot_mapping
    if tile is not None and q_norm is None and k_norm is None:
        q = fused_norm_qkv_rope_store(residual, norm_weight, eps, qkv_weight, qkv_bias, *places, tile)
        return q, None
    if tile is None or qkv_bias is not None:
        qkv = F.linear(rms_norm(residual, norm_weight, eps), qkv_weight, qkv_bias)
    else:
        qkv = torch.empty(len(residual), len(qkv_weight), dtype=residual.dtype, device=residual.device)
        norm_linear(residual, norm_weight, eps, qkv_weight, qkv, tile)
    num_kv_heads, head_dim = k_cache.shape[2:]
    heads = qkv.view(len(qkv), -1, head_dim)
    q, kv = heads.tensor_split((-2 * num_kv_heads,), dim=1)
    if q_norm is not None and k_norm is not None:
        head_norm_rope_store(heads, q_norm, k_norm, eps, *places)
    else:
        rope_store(q, kv[:, :num_kv_heads], kv[:, num_kv_heads:], *places)
    return q, kv


def fused_norm_qkv_rope_store(
    residual: torch.Tensor,  # [T, hidden_size], contiguous
    norm_weight: torch.Tensor,  # [hidden_size]
    eps: float,
    qkv_weight: torch.Tensor,  # [(H + 2G) * D, hidden_size], contiguous
    qkv_bias: torch.Tensor | None,  # [(H + 2G) * D]
    positions: torch.Tensor,  # [T]
    cos_sin: torch.Tensor,  # [context_length, D] float32, contiguous
    k_cache: torch.Tensor,  # [N, S, G, D], contiguous; written
    v_cache: torch.Tensor,  # [N, S, G, D], contiguous; written
    slot_mapping: torch.Tensor,  # [T]
    tile: Tile,
) -> torch.Tensor:  # [T, H, D]
    """The same, without norms of heads, in one kernel; a program owns rotary pairs of one head."""
    assert cos_sin.is_contiguous()
    assert all(each.is_contiguous() for each in (residual, qkv_weight, k_cache, v_cache))
    num_tokens, (num_kv_heads, head_dim) = residual.shape[0], k_cache.shape[2:]
    assert num_tokens <= tile.block_m
    num_heads = qkv_weight.shape[0] // head_dim - 2 * num_kv_heads
    q = torch.empty(num_tokens, num_heads, head_dim, dtype=residual.dtype, device=residual.device)
    x, has_norm = norm_input(residual, norm_weight, eps, tile)
    is_dependent = has_dependent_launch(x)
    constants = kernel_constants(
        x.shape[1], (num_heads, num_kv_heads, head_dim), tile, has_norm, qkv_bias is not None,
        is_dependent,
    )  # fmt: skip
    blocks = triton.cdiv(head_dim // 2, constants["ROWS"] // 2)
    _norm_qkv_rope_store_kernel[(blocks, num_heads + 2 * num_kv_heads)](
        x, norm_weight, qkv_weight, qkv_weight if qkv_bias is None else qkv_bias,
        positions, cos_sin, q, k_cache, v_cache, slot_mapping, eps, num_tokens, **constants,
        num_warps=tile.num_warps, num_stages=tile.num_stages, launch_pdl=is_dependent,
    )  # fmt: skip
    return q


def kernel_constants(
    hidden_size: int,
    heads: tuple[int, int, int],  # H, G, D
    tile: Tile,
    has_norm: bool,
    has_bias: bool,
    is_dependent: bool,
) -> dict[str, int]:
    """The kernel's compile-time arguments."""
    num_heads, num_kv_heads, head_dim = heads
    return tile.constants(hidden_size) | {
        "NUM_HEADS": num_heads,
        "NUM_KV_HEADS": num_kv_heads,
        "NUM_PAIRS": head_dim // 2,
        "HAS_NORM": has_norm,
        "HAS_BIAS": has_bias,
        "IS_DEPENDENT": is_dependent,
    }


@triton.jit(do_not_specialize=["num_tokens"])
def _norm_qkv_rope_store_kernel(
    x: tl.tensor,  # [num_tokens, K]
    norm_weight: tl.tensor,  # [K]
    weight: tl.tensor,  # [(NUM_HEADS + 2 * NUM_KV_HEADS) * 2 * NUM_PAIRS, K]
    bias: tl.tensor,  # [(NUM_HEADS + 2 * NUM_KV_HEADS) * 2 * NUM_PAIRS]
    positions: tl.tensor,  # [num_tokens]
    cos_sin: tl.tensor,  # [context_length, 2 * NUM_PAIRS]
    q: tl.tensor,  # [num_tokens, NUM_HEADS, 2 * NUM_PAIRS]
    k_cache: tl.tensor,  # [slots, NUM_KV_HEADS, 2 * NUM_PAIRS]
    v_cache: tl.tensor,  # [slots, NUM_KV_HEADS, 2 * NUM_PAIRS]
    slot_mapping: tl.tensor,  # [num_tokens]
    eps: float,
    num_tokens: int,
    K: tl.constexpr,
    LENGTH: tl.constexpr,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    NUM_PAIRS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    head = tl.program_id(1)
    HEAD_DIM: tl.constexpr = 2 * NUM_PAIRS
    HALF: tl.constexpr = ROWS // 2
    # Rows alternate: the first of a rotary pair, the second.
    lanes = tl.arange(0, ROWS)
    inside = tl.minimum(tl.program_id(0) * HALF + lanes // 2, NUM_PAIRS - 1)
    rows = head * HEAD_DIM + inside + lanes % 2 * NUM_PAIRS
    tile = await_inputs(weight, rows.to(tl.int64), 0, LENGTH, K, BLOCK_M, BLOCK_K, IS_DEPENDENT)
    # What the end needs is on its way while the products are made.
    pairs = tl.program_id(0) * HALF + tl.arange(0, HALF)[:, None]
    tokens = tl.arange(0, BLOCK_M)[None, :]
    is_token = tokens < num_tokens
    mask = (pairs < NUM_PAIRS) & is_token
    slot = tl.load(slot_mapping + tokens, mask=is_token, other=0).to(tl.int64)
    angles = cos_sin + tl.load(positions + tokens, mask=is_token, other=0).to(tl.int64) * HEAD_DIM + pairs
    cos = tl.load(angles, mask=mask, other=0.0)
    sin = tl.load(angles + NUM_PAIRS, mask=mask, other=0.0)
    products = row_products(
        tile, x, norm_weight, eps, weight, rows.to(tl.int64), num_tokens, 0,
        LENGTH, K, BLOCK_M, BLOCK_K, HAS_NORM,
    )  # fmt: skip
    if HAS_BIAS:
        products += tl.load(bias + rows).to(tl.float32)[:, None]
    first, second = products.reshape([HALF, 2, BLOCK_M]).permute(0, 2, 1).split()
    if head < NUM_HEADS + NUM_KV_HEADS:
        first, second = first * cos - second * sin, second * cos + first * sin
    if head < NUM_HEADS:
        at = q + (tokens * NUM_HEADS + head) * HEAD_DIM + pairs
    else:
        cache = k_cache if head < NUM_HEADS + NUM_KV_HEADS else v_cache
        at = cache + (slot * NUM_KV_HEADS + (head - NUM_HEADS) % NUM_KV_HEADS) * HEAD_DIM + pairs
    tl.store(at, first.to(q.dtype.element_ty), mask=mask)
    tl.store(at + NUM_PAIRS, second.to(q.dtype.element_ty), mask=mask)
