"""Norms of query and key heads (Qwen3), rotary positions, and the write into the cache, in one launch."""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tandem_kernels.dependent_launch import has_dependent_launch


def head_norm_rope_store(
    heads: torch.Tensor,  # [T, H + 2G, D]: q, k, v; contiguous. q is overwritten
    q_norm: torch.Tensor,  # [D]
    k_norm: torch.Tensor,  # [D]
    eps: float,
    positions: torch.Tensor,  # [T]
    cos_sin: torch.Tensor,  # [context_length, D] float32, contiguous
    k_cache: torch.Tensor,  # [N, S, G, D], contiguous; written
    v_cache: torch.Tensor,  # [N, S, G, D], contiguous; written
    slot_mapping: torch.Tensor,  # [T]
) -> None:
    """`reference.rms_norm` of q and k by head, then `reference.rope_store`. One program a head of a token."""
    assert all(each.is_contiguous() for each in (heads, cos_sin, k_cache, v_cache))
    num_tokens, num_heads, head_dim = heads.shape
    num_kv_heads = k_cache.shape[2]
    is_dependent = has_dependent_launch(heads)
    _head_norm_rope_store_kernel[(num_tokens, num_heads)](
        heads, q_norm, k_norm, positions, cos_sin, k_cache, v_cache, slot_mapping, eps,
        num_heads - 2 * num_kv_heads, num_kv_heads, head_dim // 2, triton.next_power_of_2(head_dim // 2),
        is_dependent, num_warps=1, launch_pdl=is_dependent,
    )  # fmt: skip


@triton.jit
def _head_norm_rope_store_kernel(
    heads: tl.tensor,  # [T, NUM_HEADS + 2 * NUM_KV_HEADS, 2 * NUM_PAIRS]
    q_norm: tl.tensor,  # [2 * NUM_PAIRS]
    k_norm: tl.tensor,  # [2 * NUM_PAIRS]
    positions: tl.tensor,  # [T]
    cos_sin: tl.tensor,  # [context_length, 2 * NUM_PAIRS]
    k_cache: tl.tensor,  # [slots, NUM_KV_HEADS, 2 * NUM_PAIRS]
    v_cache: tl.tensor,  # [slots, NUM_KV_HEADS, 2 * NUM_PAIRS]
    slot_mapping: tl.tensor,  # [T]
    eps: float,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    NUM_PAIRS: tl.constexpr,
    BLOCK_PAIRS: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    if IS_DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()
    token, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    HEAD_DIM: tl.constexpr = 2 * NUM_PAIRS
    # [2, BLOCK_PAIRS]: the first and the second of each rotary pair.
    pairs = tl.arange(0, BLOCK_PAIRS)[None, :]
    dims = pairs + tl.arange(0, 2)[:, None] * NUM_PAIRS
    mask = (pairs < NUM_PAIRS) & (dims < HEAD_DIM)
    at = heads + (token * tl.num_programs(1) + head) * HEAD_DIM + dims
    stored = tl.load(at, mask=mask, other=0.0)
    if head < NUM_HEADS + NUM_KV_HEADS:
        norm = q_norm if head < NUM_HEADS else k_norm
        values = stored.to(tl.float32)
        scale = tl.rsqrt(tl.sum(tl.sum(values * values, axis=1), axis=0) / HEAD_DIM + eps)
        weight = tl.load(norm + dims, mask=mask, other=0.0)
        values = (values * scale).to(stored.dtype).to(tl.float32) * weight.to(tl.float32)
        first, second = values.to(stored.dtype).to(tl.float32).permute(1, 0).split()
        angles = cos_sin + tl.load(positions + token).to(tl.int64) * HEAD_DIM + tl.arange(0, BLOCK_PAIRS)
        is_pair = tl.arange(0, BLOCK_PAIRS) < NUM_PAIRS
        cos = tl.load(angles, mask=is_pair, other=0.0)
        sin = tl.load(angles + NUM_PAIRS, mask=is_pair, other=0.0)
        turned = tl.join(first * cos - second * sin, second * cos + first * sin)
        stored = turned.permute(1, 0).to(stored.dtype)
        tl.store(at, stored, mask=mask)
    if head >= NUM_HEADS:
        slot = tl.load(slot_mapping + token).to(tl.int64)
        cache = k_cache if head < NUM_HEADS + NUM_KV_HEADS else v_cache
        place = (slot * NUM_KV_HEADS + (head - NUM_HEADS) % NUM_KV_HEADS) * HEAD_DIM
        tl.store(cache + place + dims, stored, mask=mask)
