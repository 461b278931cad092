"""Rotary positions of queries and keys, and the write of keys and values into the cache, in one launch."""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tandem_kernels.dependent_launch import has_dependent_launch

_BLOCK_HEADS = 8


def rope_store(
    q: torch.Tensor,  # [T, H, D], the last axis contiguous; overwritten
    k: torch.Tensor,  # [T, G, D], the last axis contiguous; overwritten
    v: torch.Tensor,  # [T, G, D], the last axis contiguous
    positions: torch.Tensor,  # [T]
    cos_sin: torch.Tensor,  # [context_length, D] float32, contiguous
    k_cache: torch.Tensor,  # [N, S, G, D], contiguous; written
    v_cache: torch.Tensor,  # [N, S, G, D], contiguous; written
    slot_mapping: torch.Tensor,  # [T]
) -> None:
    """See `reference.rope_store`. A program takes some heads of one token, of q or of k and v."""
    assert q.stride(-1) == k.stride(-1) == v.stride(-1) == 1
    assert cos_sin.is_contiguous()
    assert k_cache.is_contiguous()
    assert v_cache.is_contiguous()
    num_tokens, num_heads, head_dim = q.shape
    num_kv_heads = k.shape[1]
    grid = (num_tokens, triton.cdiv(num_heads, _BLOCK_HEADS) + triton.cdiv(num_kv_heads, _BLOCK_HEADS))
    is_dependent = has_dependent_launch(q)
    _rope_store_kernel[grid](
        q, k, v, positions, cos_sin, k_cache, v_cache, slot_mapping,
        q.stride(0), q.stride(1), k.stride(0), k.stride(1), v.stride(0), v.stride(1),
        num_heads, num_kv_heads, head_dim // 2, _BLOCK_HEADS, triton.next_power_of_2(head_dim // 2),
        is_dependent, num_warps=2, launch_pdl=is_dependent,
    )  # fmt: skip


@triton.jit
def _rotated(
    at: tl.tensor,  # [BLOCK_HEADS, BLOCK_PAIRS], addresses in the heads' first halves
    NUM_PAIRS: tl.constexpr,
    cos: tl.tensor,  # [1, BLOCK_PAIRS]
    sin: tl.tensor,  # [1, BLOCK_PAIRS]
    mask: tl.tensor,  # [BLOCK_HEADS, BLOCK_PAIRS]
) -> tuple[tl.tensor, tl.tensor]:  # the rotated halves in the type of what is there
    first, second = tl.load(at, mask=mask), tl.load(at + NUM_PAIRS, mask=mask)
    x, y = first.to(tl.float32), second.to(tl.float32)
    return (x * cos - y * sin).to(first.dtype), (y * cos + x * sin).to(first.dtype)


@triton.jit
def _rope_store_kernel(
    q: tl.tensor,  # [T, NUM_HEADS, 2 * NUM_PAIRS]
    k: tl.tensor,  # [T, NUM_KV_HEADS, 2 * NUM_PAIRS]
    v: tl.tensor,  # [T, NUM_KV_HEADS, 2 * NUM_PAIRS]
    positions: tl.tensor,  # [T]
    cos_sin: tl.tensor,  # [context_length, 2 * NUM_PAIRS]
    k_cache: tl.tensor,  # [slots, NUM_KV_HEADS, 2 * NUM_PAIRS]
    v_cache: tl.tensor,  # [slots, NUM_KV_HEADS, 2 * NUM_PAIRS]
    slot_mapping: tl.tensor,  # [T]
    q_token_stride: int,
    q_head_stride: int,
    k_token_stride: int,
    k_head_stride: int,
    v_token_stride: int,
    v_head_stride: int,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    NUM_PAIRS: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_PAIRS: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    if IS_DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()
    token, group = tl.program_id(0).to(tl.int64), tl.program_id(1)
    pairs = tl.arange(0, BLOCK_PAIRS)[None, :]
    angles = cos_sin + tl.load(positions + token).to(tl.int64) * (2 * NUM_PAIRS) + pairs
    cos = tl.load(angles, mask=pairs < NUM_PAIRS, other=0.0)
    sin = tl.load(angles + NUM_PAIRS, mask=pairs < NUM_PAIRS, other=0.0)
    NUM_Q_GROUPS: tl.constexpr = (NUM_HEADS + BLOCK_HEADS - 1) // BLOCK_HEADS
    if group < NUM_Q_GROUPS:
        heads = group * BLOCK_HEADS + tl.arange(0, BLOCK_HEADS)[:, None]
        mask = (heads < NUM_HEADS) & (pairs < NUM_PAIRS)
        query = q + token * q_token_stride + heads * q_head_stride + pairs
        first, second = _rotated(query, NUM_PAIRS, cos, sin, mask)
        tl.store(query, first, mask=mask)
        tl.store(query + NUM_PAIRS, second, mask=mask)
    else:
        heads = (group - NUM_Q_GROUPS) * BLOCK_HEADS + tl.arange(0, BLOCK_HEADS)[:, None]
        mask = (heads < NUM_KV_HEADS) & (pairs < NUM_PAIRS)
        slot = tl.load(slot_mapping + token).to(tl.int64)
        place = slot * (NUM_KV_HEADS * 2 * NUM_PAIRS) + heads * (2 * NUM_PAIRS) + pairs
        key = k + token * k_token_stride + heads * k_head_stride + pairs
        first, second = _rotated(key, NUM_PAIRS, cos, sin, mask)
        tl.store(key, first, mask=mask)
        tl.store(key + NUM_PAIRS, second, mask=mask)
        tl.store(k_cache + place, first, mask=mask)
        tl.store(k_cache + place + NUM_PAIRS, second, mask=mask)
        value = v + token * v_token_stride + heads * v_head_stride + pairs
        tl.store(v_cache + place, tl.load(value, mask=mask), mask=mask)
        tl.store(v_cache + place + NUM_PAIRS, tl.load(value + NUM_PAIRS, mask=mask), mask=mask)
