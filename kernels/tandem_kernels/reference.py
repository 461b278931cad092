"""The operations of the engine in plain torch: the oracle of the kernels' tests, and the CPU's path.

Shapes use these names: T tokens of a step, B sequences, H query heads, G key-value heads (H is a
multiple of G), D head size, N blocks and S slots a block of the KV cache. A slot is
`block * S + offset`. Statistics and products of attention are kept in float32.
"""

import torch
import torch.nn.functional as F


def embedding(
    token_ids: torch.Tensor,  # [T]
    weight: torch.Tensor,  # [vocab_size, hidden_size]
) -> torch.Tensor:  # [T, hidden_size]
    """Looks up one row of `weight` for each id."""
    return weight[token_ids]


def rms_norm(
    x: torch.Tensor,  # [..., size]
    weight: torch.Tensor,  # [size]
    eps: float,
) -> torch.Tensor:  # [..., size]
    """x / sqrt(mean(x²) + eps) * weight over the last axis (Zhang and Sennrich, 2019)."""
    x32 = x.float()
    scaled = x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps)
    return scaled.to(x.dtype) * weight


def add_rms_norm(
    x: torch.Tensor,  # [..., size]
    residual: torch.Tensor,  # [..., size], overwritten with x + residual
    weight: torch.Tensor,  # [size]
    eps: float,
) -> torch.Tensor:  # [..., size]
    """Adds `x` to the residual stream and returns the sum's `rms_norm`."""
    residual += x
    return rms_norm(residual, weight, eps)


def rope_store(
    q: torch.Tensor,  # [T, H, D], overwritten
    k: torch.Tensor,  # [T, G, D], overwritten
    v: torch.Tensor,  # [T, G, D]
    positions: torch.Tensor,  # [T]
    cos_sin: torch.Tensor,  # [context_length, D] float32: D/2 cosines, then D/2 sines
    k_cache: torch.Tensor,  # [N, S, G, D], written
    v_cache: torch.Tensor,  # [N, S, G, D], written
    slot_mapping: torch.Tensor,  # [T]
) -> None:
    """Rotates queries and keys by their positions, then writes keys and values into their slots."""
    cos, sin = cos_sin[positions].unsqueeze(1).chunk(2, dim=-1)
    _rotate(q, cos, sin)
    _rotate(k, cos, sin)
    k_cache.view(-1, *k.shape[1:])[slot_mapping] = k
    v_cache.view(-1, *v.shape[1:])[slot_mapping] = v


def silu_mul(
    gate_up: torch.Tensor,  # [T, 2 * size]: gates, then ups
) -> torch.Tensor:  # [T, size]
    """silu(gate) * up (Shazeer, 2020)."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.silu(gate) * up


def softmax(
    logits: torch.Tensor,  # [B, vocab_size]
) -> torch.Tensor:  # [B, vocab_size] float32
    """Probabilities over the last axis; -inf logits get 0."""
    return torch.softmax(logits, dim=-1, dtype=torch.float32)


def prefill_attention(
    q: torch.Tensor,  # [T, H, D], the sequences' chunks one after another
    k_cache: torch.Tensor,  # [N, S, G, D]
    v_cache: torch.Tensor,  # [N, S, G, D]
    block_tables: torch.Tensor,  # [B, max_blocks]
    cu_seqlens_q: torch.Tensor,  # [B + 1], where each chunk begins in q, and T
    context_lens: torch.Tensor,  # [B], tokens up to each chunk's end
    scale: float,  # 1 / sqrt(D)
) -> torch.Tensor:  # [T, H, D]
    """Causal attention of chunks to their whole context, whose keys and values are in the cache."""
    out = torch.empty_like(q)
    starts = cu_seqlens_q.tolist()
    for index, context_len in enumerate(context_lens.tolist()):
        begin, end = starts[index], starts[index + 1]
        keys = _gather(k_cache, block_tables[index : index + 1], context_len)
        values = _gather(v_cache, block_tables[index : index + 1], context_len)
        positions = torch.arange(context_len - (end - begin), context_len, device=q.device)
        mask = torch.arange(context_len, device=q.device) <= positions.unsqueeze(1)
        out[begin:end] = _attend(q[begin:end].unsqueeze(0), keys, values, mask, scale)[0]
    return out


def decode_attention(
    q: torch.Tensor,  # [B, H, D], one token a sequence
    k_cache: torch.Tensor,  # [N, S, G, D]
    v_cache: torch.Tensor,  # [N, S, G, D]
    block_tables: torch.Tensor,  # [B, max_blocks]
    context_lens: torch.Tensor,  # [B], tokens that each query sees, itself included
    scale: float,  # 1 / sqrt(D)
) -> torch.Tensor:  # [B, H, D]
    """Attention of each sequence's newest token to its context."""
    longest = int(context_lens.max())
    mask = torch.arange(longest, device=q.device) < context_lens.unsqueeze(1)
    # Slots past a context hold anything, NaN too, which a weight of 0 would not silence.
    is_unseen = ~mask[:, :, None, None]
    keys = _gather(k_cache, block_tables, longest).masked_fill(is_unseen, 0)
    values = _gather(v_cache, block_tables, longest).masked_fill(is_unseen, 0)
    return _attend(q.unsqueeze(1), keys, values, mask[:, None, None, :], scale)[:, 0]


def _rotate(
    x: torch.Tensor,  # [T, heads, D], overwritten
    cos: torch.Tensor,  # [T, 1, D/2] float32
    sin: torch.Tensor,  # [T, 1, D/2] float32
) -> None:
    """Turns the pairs (i, i + D/2) of each head by their angles (Su et al., 2021)."""
    first, second = x.float().chunk(2, dim=-1)
    x.copy_(torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1))


def _gather(
    cache: torch.Tensor,  # [N, S, G, D]
    block_tables: torch.Tensor,  # [B, max_blocks]
    length: int,
) -> torch.Tensor:  # [B, length, G, D]
    """The first `length` tokens of each sequence, out of their blocks."""
    num_blocks = -(-length // cache.shape[1])
    return cache[block_tables[:, :num_blocks]].flatten(1, 2)[:, :length]


def _attend(
    q: torch.Tensor,  # [B, Q, H, D]
    k: torch.Tensor,  # [B, K, G, D]
    v: torch.Tensor,  # [B, K, G, D]
    mask: torch.Tensor,  # bool, broadcast to [B, H, Q, K]; True is seen
    scale: float,
) -> torch.Tensor:  # [B, Q, H, D]
    out = F.scaled_dot_product_attention(
        q.float().transpose(1, 2),
        k.float().transpose(1, 2),
        v.float().transpose(1, 2),
        attn_mask=mask,
        scale=scale,
        enable_gqa=True,
    )
    return out.transpose(1, 2).to(q.dtype)
