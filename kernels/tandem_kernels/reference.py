"""The operations of the engine in plain torch: the oracle of the kernels' tests, and the CPU's path.

Shapes use these names: T tokens of a step, B sequences, H query heads, G key-value heads (H is a
multiple of G), D head size, N blocks and S slots a block of the KV cache. A slot is
`block * S + offset`. Statistics and products of attention are kept in float32.
"""

import torch
import torch.nn.functional as F

from tandem_kernels.decode_plan import DecodePlan
from tandem_kernels.sequence_state import Column, StateLayout


def scatter_words(
    target: torch.Tensor,  # [size] int32, written
    places: torch.Tensor,  # [num_words] int32, each at most once
    words: torch.Tensor,  # [num_words] int32
) -> None:
    """target[places] = words."""
    target[places] = words


def decode_inputs(
    state: torch.Tensor,  # [num_rows, row_size] int32, by `layout`
    rows: torch.Tensor,  # [B] int32
    context_lens: torch.Tensor,  # [B] int32, with the token to compute; 0 for a row of padding
    layout: StateLayout,
    kv_block_size: int,
) -> torch.Tensor:  # [3, B] int32: token ids, positions, slots
    """What the next decode step computes: each sequence's newest token, its position and its slot."""
    positions = (context_lens - 1).clamp(min=0)
    blocks = state[rows, layout.block_table + positions // kv_block_size]
    slots = blocks * kv_block_size + positions % kv_block_size
    return torch.stack((state[rows, Column.LAST_TOKEN], positions, slots))


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


def norm_qkv_rope_store(
    residual: torch.Tensor,  # [T, hidden_size]
    norm_weight: torch.Tensor,  # [hidden_size]
    eps: float,
    qkv_weight: torch.Tensor,  # [(H + 2G) * D, hidden_size]
    qkv_bias: torch.Tensor | None,  # [(H + 2G) * D]
    q_norm: torch.Tensor | None,  # [D]
    k_norm: torch.Tensor | None,  # [D]
    positions: torch.Tensor,  # [T]
    cos_sin: torch.Tensor,  # [context_length, D] float32: D/2 cosines, then D/2 sines
    k_cache: torch.Tensor,  # [N, S, G, D], written
    v_cache: torch.Tensor,  # [N, S, G, D], written
    slot_mapping: torch.Tensor,  # [T]
) -> tuple[torch.Tensor, torch.Tensor | None]:  # [T, H, D]; [T, 2G, D] if it is at hand
    """Norms and projects the residual stream; returns rotated queries, stores keys and values.

    Rotated keys and the values come with the queries where they were written to memory on the way. Where
    a model has them, `q_norm` and `k_norm` are the weights of the norms of each head.
    """
    qkv = F.linear(rms_norm(residual, norm_weight, eps), qkv_weight, qkv_bias)
    num_kv_heads, head_dim = k_cache.shape[2:]
    heads = qkv.view(len(qkv), -1, head_dim)
    q, k, v = heads.tensor_split((-2 * num_kv_heads, -num_kv_heads), dim=1)
    if q_norm is not None and k_norm is not None:
        q, k = rms_norm(q, q_norm, eps), rms_norm(k, k_norm, eps)
    rope_store(q, k, v, positions, cos_sin, k_cache, v_cache, slot_mapping)
    return q, None


def linear_residual(
    x: torch.Tensor,  # [T, K]
    weight: torch.Tensor,  # [N, K]
    residual: torch.Tensor,  # [T, N], added to
) -> None:
    """Adds x @ weight.T to the residual stream."""
    residual.addmm_(x, weight.T)


def norm_gate_up_silu(
    residual: torch.Tensor,  # [T, hidden_size]
    norm_weight: torch.Tensor,  # [hidden_size]
    eps: float,
    gate_up_weight: torch.Tensor,  # [2 * size, hidden_size]: gates, then ups
) -> torch.Tensor:  # [T, size]
    """Norms the residual stream, projects to gates and ups, and multiplies silu(gate) with up."""
    return silu_mul(F.linear(rms_norm(residual, norm_weight, eps), gate_up_weight))


def norm_head(
    residual: torch.Tensor,  # [T, hidden_size]
    norm_weight: torch.Tensor,  # [hidden_size]
    eps: float,
    weight: torch.Tensor,  # [vocab_size, hidden_size]
    out: torch.Tensor,  # [T, vocab_size] float32, written
) -> None:
    """Norms the residual stream and writes its logits."""
    out.copy_(F.linear(rms_norm(residual, norm_weight, eps), weight))


def prefill_attention(
    q: torch.Tensor,  # [T, H, D], the sequences' chunks one after another
    k_cache: torch.Tensor,  # [N, S, G, D]
    v_cache: torch.Tensor,  # [N, S, G, D]
    block_tables: torch.Tensor,  # [num_rows, max_blocks]
    rows: torch.Tensor,  # [B], each chunk's row of block_tables
    cu_seqlens_q: torch.Tensor,  # [B + 1], where each chunk begins in q, and T
    context_lens: torch.Tensor,  # [B], tokens up to each chunk's end
    scale: float,  # 1 / sqrt(D)
    fresh_kv: torch.Tensor | None = None,  # [T, 2G, D]
) -> torch.Tensor:  # [T, H, D]
    """Causal attention of chunks to their whole context, whose keys and values are in the cache.

    `fresh_kv` repeats the keys and values of the chunks; it is for chunks without an earlier context only,
    which may be faster with it.
    """
    out = torch.empty_like(q)
    starts, tables = cu_seqlens_q.tolist(), block_tables[rows]
    for index, context_len in enumerate(context_lens.tolist()):
        begin, end = starts[index], starts[index + 1]
        keys = _gather(k_cache, tables[index : index + 1], context_len)
        values = _gather(v_cache, tables[index : index + 1], context_len)
        positions = torch.arange(context_len - (end - begin), context_len, device=q.device)
        mask = torch.arange(context_len, device=q.device) <= positions.unsqueeze(1)
        out[begin:end] = _attend(q[begin:end].unsqueeze(0), keys, values, mask, scale)[0]
    return out


def plan_decode(
    context_lens: torch.Tensor,  # [B]
    rows: torch.Tensor,  # [B]
    plan: DecodePlan,
) -> DecodePlan:
    """Returns the plan as it is: here the attention is not spread over workers."""
    return plan


def decode_attention(
    q: torch.Tensor,  # [B, H, D], one token a sequence
    k_cache: torch.Tensor,  # [N, S, G, D]
    v_cache: torch.Tensor,  # [N, S, G, D]
    block_tables: torch.Tensor,  # [num_rows, max_blocks]
    rows: torch.Tensor,  # [B], each sequence's row of block_tables
    context_lens: torch.Tensor,  # [B], tokens that each query sees, itself included
    scale: float,  # 1 / sqrt(D)
    plan: DecodePlan,  # nothing is spread here
) -> torch.Tensor:  # [B, H, D]
    """Attention of each sequence's newest token to its context."""
    longest = int(context_lens.max())
    mask = torch.arange(longest, device=q.device) < context_lens.unsqueeze(1)
    # Slots past a context hold anything, NaN too, which a weight of 0 would not silence.
    is_unseen = ~mask[:, :, None, None]
    tables = block_tables[rows]
    keys = _gather(k_cache, tables, longest).masked_fill(is_unseen, 0)
    values = _gather(v_cache, tables, longest).masked_fill(is_unseen, 0)
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
