"""Split-KV attention of decoding sequences to their context (flash-decoding; Dao et al., 2023).

The grid is (KV heads, workers); a worker walks the stretch that the plan gives it (see `decode_plan`).
The part of a stretch that lies in one sequence is a piece. A sequence in a single piece is finished by
its worker. Otherwise each worker leaves its piece's result in slot `worker + sequence` of a workspace
(pieces along the line raise one of the two by at least one, so slots are never shared), and the last
to arrive merges them in the order of the line: results repeat bit for bit.
"""

import torch
import triton
import triton.language as tl

from tandem_kernels.decode_plan import BLOCK_N, MIN_TILES, DecodePlan
from tandem_kernels.plan_decode import stretch_of

LOG2_E = 1.4426950408889634
# So that the plan's four programs an SM are resident together.
MAX_REGISTERS = 128


def decode_attention(
    q: torch.Tensor,  # [B, H, D], one token a sequence
    k_cache: torch.Tensor,  # [N, S, G, D]
    v_cache: torch.Tensor,  # [N, S, G, D]
    block_tables: torch.Tensor,  # [num_rows, max_blocks]
    rows: torch.Tensor,  # [B], each sequence's row of block_tables
    context_lens: torch.Tensor,  # [B], tokens that each query sees, itself included
    scale: float,  # 1 / sqrt(D)
    plan: DecodePlan,  # what `plan_decode` made of the same context_lens
) -> torch.Tensor:  # [B, H, D]
    """Attention of each sequence's newest token to its context; zeros where the context is empty."""
    num_seqs, num_heads, head_dim = q.shape
    _, kv_block_size, num_kv_heads, _ = k_cache.shape
    assert q.stride(2) == block_tables.stride(1) == 1
    assert k_cache.is_contiguous()
    assert v_cache.is_contiguous()
    assert num_heads % num_kv_heads == 0
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    _decode_attention_kernel[(num_kv_heads, plan.first_seqs.shape[0])](
        q,
        k_cache,
        v_cache,
        block_tables,
        rows,
        context_lens,
        out,
        plan.tile_starts,
        plan.first_seqs,
        plan.piece_out,
        plan.piece_lse,
        plan.arrivals,
        num_seqs,
        scale * LOG2_E,
        q.stride(0),
        q.stride(1),
        block_tables.stride(0),
        **kernel_constants(num_heads, num_kv_heads, head_dim, kv_block_size),
        num_warps=4,
        # The lookup in the block table takes every other stage: keys and values are two tiles ahead.
        num_stages=5,
        maxnreg=MAX_REGISTERS,
    )
    return out


def kernel_constants(num_heads: int, num_kv_heads: int, head_dim: int, kv_block_size: int) -> dict[str, int]:
    """The kernel's compile-time arguments for these shapes."""
    block_d = max(16, triton.next_power_of_2(head_dim))
    group = num_heads // num_kv_heads
    merge_g = triton.next_power_of_2(group)
    return {
        "NUM_KV_HEADS": num_kv_heads,
        "GROUP": group,
        "HEAD_DIM": head_dim,
        "KV_BLOCK_SIZE": kv_block_size,
        "MIN_TILES": MIN_TILES,
        "BLOCK_G": max(16, merge_g),
        "BLOCK_N": BLOCK_N,
        "BLOCK_D": block_d,
        "MERGE_G": merge_g,
        "MERGE_S": max(1, 2048 // (merge_g * block_d)),
    }


@triton.jit(do_not_specialize=["num_seqs", "table_stride"])
def _decode_attention_kernel(
    q: tl.tensor,  # [num_seqs, H, HEAD_DIM]
    k_cache: tl.tensor,  # [slots, NUM_KV_HEADS, HEAD_DIM]
    v_cache: tl.tensor,  # [slots, NUM_KV_HEADS, HEAD_DIM]
    block_tables: tl.tensor,  # [num_rows, table_stride]
    table_rows: tl.tensor,  # [num_seqs]
    context_lens: tl.tensor,  # [num_seqs]
    out: tl.tensor,  # [num_seqs, H, HEAD_DIM]
    tile_starts: tl.tensor,  # [num_seqs + 1]
    first_seqs: tl.tensor,  # [workers]
    piece_out: tl.tensor,  # [workers + num_seqs, H, HEAD_DIM]
    piece_lse: tl.tensor,  # [workers + num_seqs, H]
    arrivals: tl.tensor,  # [num_seqs, NUM_KV_HEADS]
    num_seqs: int,
    scale: float,  # times log2(e)
    q_stride_seq: int,
    q_stride_head: int,
    table_stride: int,
    NUM_KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    KV_BLOCK_SIZE: tl.constexpr,
    MIN_TILES: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MERGE_G: tl.constexpr,
    MERGE_S: tl.constexpr,
) -> None:
    kv_head = tl.program_id(0)
    worker = tl.program_id(1)
    NUM_HEADS: tl.constexpr = NUM_KV_HEADS * GROUP
    # tl.dot wants 16 rows: the group's query heads, then idle rows. The tensor cores have 6 times the
    # time they need even so, and one path serves every ratio.
    rows = tl.arange(0, BLOCK_G)
    heads = kv_head * GROUP + rows
    dims = tl.arange(0, BLOCK_D)
    mask = (rows < GROUP)[:, None] & (dims < HEAD_DIM)[None, :]
    out_offsets = heads[:, None] * HEAD_DIM + dims[None, :]

    num_tiles = tl.load(tile_starts + num_seqs)
    stretch = stretch_of(num_tiles, tl.num_programs(1), MIN_TILES)
    tile = worker * stretch
    stretch_end = tl.minimum(tile + stretch, num_tiles)
    seq = tl.load(first_seqs + worker, mask=tile < num_tiles, other=0)
    while tile < stretch_end:
        seq_begin = tl.load(tile_starts + seq)
        seq_end = tl.load(tile_starts + seq + 1)
        piece_end = tl.minimum(stretch_end, seq_end)
        row = seq.to(tl.int64)
        q_offsets = row * q_stride_seq + heads[:, None] * q_stride_head + dims[None, :]
        acc, lse = _attend(
            tl.load(q + q_offsets, mask=mask, other=0.0),
            k_cache + kv_head * HEAD_DIM,
            v_cache + kv_head * HEAD_DIM,
            block_tables + tl.load(table_rows + seq).to(tl.int64) * table_stride,
            tile - seq_begin,
            piece_end - seq_begin,
            tl.load(context_lens + seq).to(tl.int32),
            scale,
            NUM_KV_HEADS * HEAD_DIM,
            HEAD_DIM,
            KV_BLOCK_SIZE,
            BLOCK_G,
            BLOCK_N,
            BLOCK_D,
        )
        first_worker = seq_begin // stretch
        last_worker = (seq_end - 1) // stretch
        out_row = out + row * NUM_HEADS * HEAD_DIM
        if first_worker == last_worker:
            tl.store(out_row + out_offsets, acc.to(out.dtype.element_ty), mask=mask)
        else:
            slot = worker + seq
            tl.store(piece_out + slot * NUM_HEADS * HEAD_DIM + out_offsets, acc, mask=mask)
            tl.store(piece_lse + slot * NUM_HEADS + heads, lse, mask=rows < GROUP)
            # All threads' stores come before the one thread's release.
            tl.debug_barrier()
            arrival = arrivals + seq * NUM_KV_HEADS + kv_head
            if tl.atomic_add(arrival, 1, sem="acq_rel") == last_worker - first_worker:
                tl.store(arrival, 0)
                first_head = kv_head * GROUP
                _merge(
                    piece_out + first_head * HEAD_DIM,
                    piece_lse + first_head,
                    out_row + first_head * HEAD_DIM,
                    first_worker + seq,
                    last_worker + seq + 1,
                    NUM_HEADS,
                    GROUP,
                    HEAD_DIM,
                    MERGE_G,
                    MERGE_S,
                    BLOCK_D,
                )
        tile = piece_end
        seq += 1


@triton.jit
def _attend(
    q: tl.tensor,  # [BLOCK_G, BLOCK_D]
    keys: tl.tensor,  # the head in slot 0
    values: tl.tensor,  # the head in slot 0
    block_table: tl.tensor,  # [blocks of the sequence]
    tile_begin: tl.tensor,
    tile_end: tl.tensor,
    context_len: tl.tensor,
    scale: float,
    SLOT_STRIDE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    KV_BLOCK_SIZE: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:  # [BLOCK_G, BLOCK_D], [BLOCK_G]
    """Attention to a piece's tiles by an online softmax, and log2 of the sum of its weights."""
    dims = tl.arange(0, BLOCK_D)
    # A finite start: an empty context must not meet -inf minus -inf.
    peak = tl.full([BLOCK_G], -1e38, tl.float32)
    total = tl.zeros([BLOCK_G], tl.float32)
    acc = tl.zeros([BLOCK_G, BLOCK_D], tl.float32)
    for tile in range(tile_begin, tile_end):
        tokens = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        is_seen = tokens < context_len
        blocks = tl.load(block_table + tokens // KV_BLOCK_SIZE, mask=is_seen, other=0)
        slots = blocks.to(tl.int64) * KV_BLOCK_SIZE + tokens % KV_BLOCK_SIZE
        offsets = slots[:, None] * SLOT_STRIDE + dims[None, :]
        mask = is_seen[:, None] & (dims < HEAD_DIM)[None, :]
        k = tl.load(keys + offsets, mask=mask, other=0.0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        scores = tl.where(is_seen[None, :], scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1))
        weights = tl.exp2(scores - new_peak[:, None])
        shrink = tl.exp2(peak - new_peak)
        total = total * shrink + tl.sum(weights, 1)
        v = tl.load(values + offsets, mask=mask, other=0.0)
        acc = tl.dot(weights.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
        peak = new_peak
    total = tl.where(total > 0, total, 1.0)
    return acc / total[:, None], peak + tl.log2(total)


@triton.jit
def _merge(
    piece_out: tl.tensor,  # the group in slot 0
    piece_lse: tl.tensor,  # the group in slot 0
    out: tl.tensor,  # [GROUP, HEAD_DIM]
    first_slot: tl.tensor,
    end_slot: tl.tensor,
    NUM_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    MERGE_G: tl.constexpr,
    MERGE_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Weighs the pieces of one sequence and one group of heads by the sums of their weights."""
    heads = tl.arange(0, MERGE_G)
    dims = tl.arange(0, BLOCK_D)
    peak = tl.full([MERGE_G], -1e38, tl.float32)
    total = tl.zeros([MERGE_G], tl.float32)
    acc = tl.zeros([MERGE_G, BLOCK_D], tl.float32)
    mask = (heads < GROUP)[:, None] & (dims < HEAD_DIM)[None, :]
    for start in tl.range(first_slot, end_slot, MERGE_S, num_stages=3):
        slots = start + tl.arange(0, MERGE_S)
        is_piece = (slots < end_slot)[:, None]
        rows = slots[:, None] * NUM_HEADS + tl.minimum(heads, GROUP - 1)[None, :]
        # Other SMs wrote these: .cg passes this SM's cache by.
        lse = tl.load(piece_lse + rows, mask=is_piece, other=float("-inf"), cache_modifier=".cg")
        pieces = tl.load(
            piece_out + rows[:, :, None] * HEAD_DIM + dims[None, None, :],
            mask=is_piece[:, :, None] & mask[None, :, :],
            other=0.0,
            cache_modifier=".cg",
        )
        new_peak = tl.maximum(peak, tl.max(lse, 0))
        weights = tl.exp2(lse - new_peak[None, :])
        shrink = tl.exp2(peak - new_peak)
        total = total * shrink + tl.sum(weights, 0)
        acc = acc * shrink[:, None] + tl.sum(weights[:, :, None] * pieces, 0)
        peak = new_peak
    offsets = heads[:, None] * HEAD_DIM + dims[None, :]
    tl.store(out + offsets, (acc / total[:, None]).to(out.dtype.element_ty), mask=mask)
