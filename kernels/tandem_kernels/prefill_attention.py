"""Causal attention of prefill chunks to their context in the block pool (flash-attention 2; Dao, 2023).

A program owns one query head and BLOCK_M queries of one chunk and walks the context by tiles. Chunks lie
one after another without padding. Tile i of chunk b is program `cu_seqlens_q[b] // BLOCK_M + b + i`:
these ranges never overlap and end below `T // BLOCK_M + B`, so the grid follows from shapes alone.

Where chunks are all that their sequences have, keys and values are not looked up in the pool but read where
the projection left them: on Hopper the copy engine then brings whole tiles (TMA).
"""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
from triton.tools.tensor_descriptor import TensorDescriptor

from tandem_kernels.dependent_launch import has_dependent_launch
from tandem_kernels.gpu import is_hopper
from tandem_kernels.prefill_tiles import FEW_TOKENS, TileShape, tile_shape

LOG2_E = 1.4426950408889634


def prefill_attention(
    q: torch.Tensor,  # [T, H, D], the sequences' chunks one after another
    k_cache: torch.Tensor,  # [N, S, G, D]
    v_cache: torch.Tensor,  # [N, S, G, D]
    block_tables: torch.Tensor,  # [num_rows, max_blocks]
    rows: torch.Tensor,  # [B], each chunk's row of block_tables
    cu_seqlens_q: torch.Tensor,  # [B + 1], where each chunk begins in q, and T
    context_lens: torch.Tensor,  # [B], tokens up to each chunk's end
    scale: float,  # 1 / sqrt(D)
    fresh_kv: torch.Tensor | None = None,  # [T, 2G, D], the last two axes contiguous
) -> torch.Tensor:  # [T, H, D]
    """See `reference.prefill_attention`."""
    if fresh_kv is not None and not (is_hopper(q) and can_describe(fresh_kv)):
        fresh_kv = None
    is_fresh = fresh_kv is not None
    is_large = is_fresh or len(q) > FEW_TOKENS  # fresh prompts of few tokens are graphs', from the pool
    tile = tile_shape(q.shape[2], q.dtype, is_hopper=is_hopper(q), is_fresh=is_fresh, is_large=is_large)
    arguments = (k_cache, v_cache, block_tables, rows, cu_seqlens_q, context_lens)
    return tiled_prefill_attention(q, *arguments, scale, fresh_kv, tile)


def can_describe(fresh_kv: torch.Tensor) -> bool:
    """Whether the copy engine can bring tiles of keys and values [T, 2G, D]: powers of two, of 16 bits."""
    head_dim = fresh_kv.shape[2]
    return fresh_kv.itemsize == 2 and head_dim in (16, 32, 64, 128, 256)


def tiled_prefill_attention(
    q: torch.Tensor,  # [T, H, D]
    k_cache: torch.Tensor,  # [N, S, G, D]
    v_cache: torch.Tensor,  # [N, S, G, D]
    block_tables: torch.Tensor,  # [num_rows, max_blocks]
    rows: torch.Tensor,  # [B]
    cu_seqlens_q: torch.Tensor,  # [B + 1]
    context_lens: torch.Tensor,  # [B]
    scale: float,
    fresh_kv: torch.Tensor | None,  # [T, 2G, D]
    tile: TileShape,
) -> torch.Tensor:  # [T, H, D]
    """The same, cut as `tile` says; `fresh_kv` is read if it is there, whatever the device."""
    num_tokens, num_heads, head_dim = q.shape
    _, kv_block_size, num_kv_heads, _ = k_cache.shape
    num_seqs = context_lens.shape[0]
    assert q.stride(2) == block_tables.stride(1) == 1
    assert k_cache.is_contiguous()
    assert v_cache.is_contiguous()
    assert num_heads % num_kv_heads == 0
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    is_dependent = has_dependent_launch(q)
    is_fresh = fresh_kv is not None
    keys, values = _described(fresh_kv, tile.block_n) if fresh_kv is not None else (k_cache, v_cache)
    _prefill_attention_kernel[(num_heads, num_tokens // tile.block_m + num_seqs)](
        q,
        keys,
        values,
        block_tables,
        rows,
        cu_seqlens_q,
        context_lens,
        out,
        num_seqs,
        scale * LOG2_E,
        q.stride(0),
        q.stride(1),
        block_tables.stride(0),
        **kernel_constants(num_heads, num_kv_heads, head_dim, kv_block_size, tile, is_fresh),
        IS_DEPENDENT=is_dependent,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        maxnreg=tile.max_registers,
        launch_pdl=is_dependent,
    )
    return out


def _described(fresh_kv: torch.Tensor, block_n: int) -> tuple[TensorDescriptor, TensorDescriptor]:
    """Keys and values as matrices [T, G * D], whose tiles have `block_n` rows and the columns of a head."""
    num_tokens, num_parts, head_dim = fresh_kv.shape
    shape, strides = [num_tokens, num_parts // 2 * head_dim], [fresh_kv.stride(0), 1]
    keys, values = (
        TensorDescriptor(part, shape, strides, [block_n, head_dim]) for part in fresh_kv.chunk(2, 1)
    )
    return keys, values


def kernel_constants(
    num_heads: int, num_kv_heads: int, head_dim: int, kv_block_size: int, tile: TileShape, is_fresh: bool
) -> dict[str, int]:
    """The kernel's compile-time arguments for these shapes."""
    return {
        "NUM_KV_HEADS": num_kv_heads,
        "GROUP": num_heads // num_kv_heads,
        "HEAD_DIM": head_dim,
        "KV_BLOCK_SIZE": kv_block_size,
        "BLOCK_M": tile.block_m,
        "BLOCK_N": tile.block_n,
        "BLOCK_D": max(16, triton.next_power_of_2(head_dim)),
        "IS_FRESH": is_fresh,
    }


@triton.jit(do_not_specialize=["num_seqs", "table_stride"])
def _prefill_attention_kernel(
    q: tl.tensor,  # [T, H, HEAD_DIM]
    keys: tl.tensor,  # [slots, NUM_KV_HEADS, HEAD_DIM], or described [T, NUM_KV_HEADS * HEAD_DIM]
    values: tl.tensor,  # likewise
    block_tables: tl.tensor,  # [num_rows, table_stride]
    table_rows: tl.tensor,  # [num_seqs]
    cu_seqlens_q: tl.tensor,  # [num_seqs + 1]
    context_lens: tl.tensor,  # [num_seqs]
    out: tl.tensor,  # [T, H, HEAD_DIM]
    num_seqs: int,
    scale: float,  # times log2(e)
    q_stride_token: int,
    q_stride_head: int,
    table_stride: int,
    NUM_KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    KV_BLOCK_SIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    IS_FRESH: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    if IS_DEPENDENT:
        gdc_launch_dependents()
        gdc_wait()
    # Heads run side by side, so that those of a group share their tiles in L2. The last tiles of the
    # chunks, which see the longest contexts, start first.
    head = tl.program_id(0)
    tile = tl.num_programs(1) - 1 - tl.program_id(1)
    seq = _sequence_of(tile, cu_seqlens_q, num_seqs, BLOCK_M)
    chunk_begin = tl.load(cu_seqlens_q + seq).to(tl.int32)
    chunk_len = tl.load(cu_seqlens_q + seq + 1).to(tl.int32) - chunk_begin
    tile_begin = (tile - chunk_begin // BLOCK_M - seq) * BLOCK_M
    if tile_begin >= chunk_len:
        return
    rows = tile_begin + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, BLOCK_D)
    mask = (rows < chunk_len)[:, None] & (dims < HEAD_DIM)[None, :]
    tokens = (chunk_begin + rows).to(tl.int64)
    queries = tl.load(
        q + tokens[:, None] * q_stride_token + head * q_stride_head + dims[None, :], mask=mask, other=0.0
    )
    context_len = tl.load(context_lens + seq).to(tl.int32)
    first_position = context_len - chunk_len + tile_begin
    positions = first_position + tl.arange(0, BLOCK_M)
    num_open_tiles = (first_position + 1) // BLOCK_N
    seen_end = tl.minimum(first_position + BLOCK_M, context_len)

    peak = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    kv_head = head // GROUP
    # Tiles that all rows see whole need no mask; those on the diagonal follow.
    for is_diagonal in tl.static_range(2):
        first = num_open_tiles if is_diagonal else 0
        end = tl.cdiv(seen_end, BLOCK_N) if is_diagonal else num_open_tiles
        acc, total, peak = _attend(
            queries,
            acc,
            total,
            peak,
            keys,
            values,
            kv_head * HEAD_DIM,
            chunk_begin,
            block_tables + tl.load(table_rows + seq).to(tl.int64) * table_stride,
            first,
            end,
            positions,
            context_len,
            scale,
            NUM_KV_HEADS * HEAD_DIM,
            HEAD_DIM,
            KV_BLOCK_SIZE,
            BLOCK_N,
            BLOCK_D,
            IS_FRESH,
            is_diagonal,
        )
    out_offsets = (tokens[:, None] * (NUM_KV_HEADS * GROUP) + head) * HEAD_DIM + dims[None, :]
    tl.store(out + out_offsets, (acc / total[:, None]).to(out.dtype.element_ty), mask=mask)


@triton.jit
def _sequence_of(
    tile: tl.tensor,
    cu_seqlens_q: tl.tensor,  # [num_seqs + 1]
    num_seqs: int,
    BLOCK_M: tl.constexpr,
) -> tl.tensor:
    """The last sequence whose tiles begin at or before `tile`."""
    low = tile * 0
    high = num_seqs
    while high - low > 1:
        middle = (low + high) // 2
        is_after = tl.load(cu_seqlens_q + middle).to(tl.int32) // BLOCK_M + middle > tile
        high = tl.where(is_after, middle, high)
        low = tl.where(is_after, low, middle)
    return low


@triton.jit
def _attend(
    q: tl.tensor,  # [BLOCK_M, BLOCK_D]
    acc: tl.tensor,  # [BLOCK_M, BLOCK_D]
    total: tl.tensor,  # [BLOCK_M]
    peak: tl.tensor,  # [BLOCK_M]
    keys: tl.tensor,  # [slots, SLOT_STRIDE], or described [T, SLOT_STRIDE]
    values: tl.tensor,  # likewise
    column: tl.tensor,  # where the head begins
    chunk_begin: tl.tensor,
    block_table: tl.tensor,  # [blocks of the sequence]
    first_tile: tl.tensor,
    end_tile: tl.tensor,
    positions: tl.tensor,  # [BLOCK_M]
    context_len: tl.tensor,
    scale: float,
    SLOT_STRIDE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    KV_BLOCK_SIZE: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    IS_FRESH: tl.constexpr,
    IS_DIAGONAL: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:  # acc, total, peak
    """Continues an online softmax over tiles [first_tile, end_tile) of the context."""
    dims = tl.arange(0, BLOCK_D)
    for tile in range(first_tile, end_tile):
        tokens = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        if IS_FRESH:
            k = keys.load([chunk_begin + tile * BLOCK_N, column])
        else:
            if IS_DIAGONAL:
                is_there = tokens < context_len
                blocks = tl.load(block_table + tokens // KV_BLOCK_SIZE, mask=is_there, other=0)
                mask = is_there[:, None] & (dims < HEAD_DIM)[None, :]
            else:
                blocks = tl.load(block_table + tokens // KV_BLOCK_SIZE)
                mask = (dims < HEAD_DIM)[None, :]
            slots = blocks.to(tl.int32) * KV_BLOCK_SIZE + tokens % KV_BLOCK_SIZE
            offsets = slots.to(tl.int64)[:, None] * SLOT_STRIDE + column + dims[None, :]
            k = tl.load(keys + offsets, mask=mask, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        if IS_DIAGONAL:
            scores = tl.where(tokens[None, :] <= positions[:, None], scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1) * scale)
        weights = tl.exp2(scores * scale - new_peak[:, None])
        shrink = tl.exp2(peak - new_peak)
        total = total * shrink + tl.sum(weights, 1)
        if IS_FRESH:
            v = values.load([chunk_begin + tile * BLOCK_N, column])
            if IS_DIAGONAL:  # another chunk's values follow, and none of them may count, not even as 0 * NaN
                v = tl.where((tokens < context_len)[:, None], v, 0.0)
        else:
            v = tl.load(values + offsets, mask=mask, other=0.0)
        acc = tl.dot(weights.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
        peak = new_peak
    return acc, total, peak
