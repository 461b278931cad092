"""Split-KV attention of decoding sequences to their context (flash-decoding; Dao et al., 2023).

The grid is (KV heads, workers); a worker attends to the pieces that the plan gives it (see `decode_plan`).
A sequence in a single piece is finished by its worker. Otherwise each worker leaves its piece's result in
slot `worker + sequence` of a workspace (pieces along the line raise one of the two by at least one, so
slots are never shared), and the last to arrive merges them in the order of the line: results repeat bit
for bit.

Where the GPU has programmatic dependent launch, a program begins while the kernel before it still runs. Until
that has ended it reads what was complete before the plan was: the plan and the block table. It brings the
keys and values of its first tile to L2 meanwhile; whether the newest of them are written yet is no matter.
"""

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tandem_kernels.decode_merge import merge_pieces
from tandem_kernels.decode_plan import NUM_COLUMNS, DecodePlan
from tandem_kernels.dependent_launch import has_dependent_launch

LOG2_E = 1.4426950408889634
NUM_WARPS = 4
# Keys and values are two tiles ahead of the products.
NUM_STAGES = 3
# So that the plan's four programs an SM are resident together.
MAX_REGISTERS = 128
# Below, the projections before and after fill the GPU's registers, and programs that come early share what
# few SMs have room: on an H200 one sequence took 5.6 µs a layer with and 4.8 without. 4 took 5.3 and 6.6.
MIN_DEPENDENT_SEQS = 3
# Larger heads take longer to ask for than they save: with heads of 128, 16 sequences took 13.3 µs and 12.0.
MAX_PREFETCH_DIM = 64
_NUM_COLUMNS = tl.constexpr(NUM_COLUMNS)


def decode_attention(
    q: torch.Tensor,  # [B, H, D], one token a sequence
    k_cache: torch.Tensor,  # [N, S, G, D]
    v_cache: torch.Tensor,  # [N, S, G, D]
    block_tables: torch.Tensor,  # [num_rows, max_blocks]
    rows: torch.Tensor,  # [B], each sequence's row of block_tables
    context_lens: torch.Tensor,  # [B], tokens that each query sees, itself included
    scale: float,  # 1 / sqrt(D)
    plan: DecodePlan,  # what `plan_decode` made of the same rows and context_lens
) -> torch.Tensor:  # [B, H, D]
    """Attention of each sequence's newest token to its context; zeros where the context is empty."""
    num_seqs, num_heads, head_dim = q.shape
    _, kv_block_size, num_kv_heads, _ = k_cache.shape
    assert num_seqs == rows.shape[0] == context_lens.shape[0] > 0
    assert q.stride(2) == block_tables.stride(1) == 1
    assert k_cache.is_contiguous()
    assert v_cache.is_contiguous()
    assert num_heads % num_kv_heads == 0
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    is_dependent = num_seqs >= MIN_DEPENDENT_SEQS and has_dependent_launch(q)
    _decode_attention_kernel[(num_kv_heads, plan.worker_pieces.shape[0])](
        q,
        k_cache,
        v_cache,
        block_tables,
        out,
        plan.worker_pieces,
        plan.seq_pieces,
        plan.piece_out,
        plan.piece_lse,
        plan.arrivals,
        scale * LOG2_E,
        q.stride(0),
        q.stride(1),
        block_tables.stride(0),
        **kernel_constants(num_heads, num_kv_heads, head_dim, kv_block_size, plan.tile_tokens),
        IS_DEPENDENT=is_dependent,
        num_warps=NUM_WARPS,
        num_stages=NUM_STAGES,
        maxnreg=MAX_REGISTERS,
        launch_pdl=is_dependent,
    )
    return out


def kernel_constants(
    num_heads: int, num_kv_heads: int, head_dim: int, kv_block_size: int, tile_tokens: int
) -> dict[str, int]:
    """The kernel's compile-time arguments for these shapes."""
    block_d = max(16, triton.next_power_of_2(head_dim))
    group = num_heads // num_kv_heads
    merge_n = triton.next_power_of_2(group * head_dim)
    return {
        "NUM_KV_HEADS": num_kv_heads,
        "GROUP": group,
        "HEAD_DIM": head_dim,
        "KV_BLOCK_SIZE": kv_block_size,
        "BLOCK_G": max(16, triton.next_power_of_2(group)),
        "BLOCK_N": tile_tokens,
        "BLOCK_D": block_d,
        "MERGE_S": min(max(4096 // merge_n, 1), 8),
        "MERGE_N": merge_n,
        "HAS_PREFETCH": head_dim <= MAX_PREFETCH_DIM,
    }


@triton.jit(do_not_specialize=["table_stride"])
def _decode_attention_kernel(
    q: tl.tensor,  # [num_seqs, H, HEAD_DIM]
    k_cache: tl.tensor,  # [slots, NUM_KV_HEADS, HEAD_DIM]
    v_cache: tl.tensor,  # [slots, NUM_KV_HEADS, HEAD_DIM]
    block_tables: tl.tensor,  # [num_rows, table_stride]
    out: tl.tensor,  # [num_seqs, H, HEAD_DIM]
    worker_pieces: tl.tensor,  # [workers, NUM_COLUMNS]
    seq_pieces: tl.tensor,  # [num_seqs, NUM_COLUMNS]
    piece_out: tl.tensor,  # [workers + num_seqs, H, HEAD_DIM]
    piece_lse: tl.tensor,  # [workers + num_seqs, H]
    arrivals: tl.tensor,  # [num_seqs, NUM_KV_HEADS]
    scale: float,  # times log2(e)
    q_stride_seq: int,
    q_stride_head: int,
    table_stride: int,
    NUM_KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    KV_BLOCK_SIZE: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MERGE_S: tl.constexpr,
    MERGE_N: tl.constexpr,
    HAS_PREFETCH: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> None:
    kv_head = tl.program_id(0)
    worker = tl.program_id(1)
    NUM_HEADS: tl.constexpr = NUM_KV_HEADS * GROUP
    SLOT_STRIDE: tl.constexpr = NUM_KV_HEADS * HEAD_DIM
    keys = k_cache + kv_head * HEAD_DIM
    values = v_cache + kv_head * HEAD_DIM
    # tl.dot wants 16 rows: the group's query heads, then idle rows. The tensor cores have 6 times the
    # time they need even so, and one path serves every ratio.
    rows = tl.arange(0, BLOCK_G)
    heads = kv_head * GROUP + rows
    dims = tl.arange(0, BLOCK_D)
    mask = (rows < GROUP)[:, None] & (dims < HEAD_DIM)[None, :]
    out_offsets = heads[:, None] * HEAD_DIM + dims[None, :]

    if IS_DEPENDENT:
        gdc_launch_dependents()
    piece = worker_pieces + worker * _NUM_COLUMNS
    num_left = _column(piece, 7)
    if num_left == 0:
        # The first worker always has a piece, and waits: no kernel ends before its predecessor.
        return
    seq, context_len, begin = _column(piece, 0), _column(piece, 2), _column(piece, 3)
    table = block_tables + _column(piece, 1).to(tl.int64) * table_stride
    slots = _slots(table, begin * BLOCK_N + tl.arange(0, BLOCK_N), context_len, KV_BLOCK_SIZE, ".cg")
    if IS_DEPENDENT:
        if HAS_PREFETCH:
            first = begin * BLOCK_N
            _prefetch(keys, values, table, first, context_len, SLOT_STRIDE, HEAD_DIM, KV_BLOCK_SIZE)
        gdc_wait()
    while num_left > 0:
        end, first_worker, last_worker = _column(piece, 4), _column(piece, 5), _column(piece, 6)
        row = seq.to(tl.int64)
        q_offsets = row * q_stride_seq + heads[:, None] * q_stride_head + dims[None, :]
        acc, lse = _attend(
            q + q_offsets,
            mask,
            keys,
            values,
            table,
            slots,
            begin,
            end,
            context_len,
            scale,
            SLOT_STRIDE,
            HEAD_DIM,
            KV_BLOCK_SIZE,
            BLOCK_G,
            BLOCK_N,
            BLOCK_D,
        )
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
                merge_pieces(
                    piece_out + first_head * HEAD_DIM,
                    piece_lse + first_head,
                    out_row + first_head * HEAD_DIM,
                    first_worker + seq,
                    last_worker + seq + 1,
                    NUM_HEADS,
                    GROUP,
                    HEAD_DIM,
                    MERGE_S,
                    MERGE_N,
                )
        num_left -= 1
        if num_left > 0:
            piece = seq_pieces + (seq + 1) * _NUM_COLUMNS
            seq += 1
            context_len, begin = _column(piece, 2), _column(piece, 3)
            table = block_tables + _column(piece, 1).to(tl.int64) * table_stride
            slots = _slots(table, begin * BLOCK_N + tl.arange(0, BLOCK_N), context_len, KV_BLOCK_SIZE, ".cg")


@triton.jit
def _column(piece: tl.tensor, COLUMN: tl.constexpr) -> tl.tensor:
    # .cg passes this SM's cache by, which may still have the plan of an earlier step.
    return tl.load(piece + COLUMN, cache_modifier=".cg")


@triton.jit
def _slots(
    block_table: tl.tensor,  # [blocks of the sequence]
    tokens: tl.tensor,  # [N]
    context_len: tl.tensor,
    KV_BLOCK_SIZE: tl.constexpr,
    CACHE: tl.constexpr,
) -> tl.tensor:  # [N] int32
    """Where keys and values of tokens are; 0 behind the context."""
    at = block_table + tokens // KV_BLOCK_SIZE
    blocks = tl.load(at, mask=tokens < context_len, other=0, cache_modifier=CACHE).to(tl.int32)
    return blocks * KV_BLOCK_SIZE + tokens % KV_BLOCK_SIZE


@triton.jit
def _prefetch(
    keys: tl.tensor,  # the head in slot 0
    values: tl.tensor,  # the head in slot 0
    block_table: tl.tensor,  # [blocks of the sequence]
    first_token: tl.tensor,
    context_len: tl.tensor,
    SLOT_STRIDE: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    KV_BLOCK_SIZE: tl.constexpr,
) -> None:
    """Asks for the keys and values of a piece's first tokens to be brought to L2."""
    NUM_BYTES: tl.constexpr = HEAD_DIM * keys.dtype.element_ty.primitive_bitwidth // 8
    # One request a thread, of four warps.
    NUM_TOKENS: tl.constexpr = 64
    if NUM_BYTES % 16 == 0:
        lanes = tl.arange(0, 2 * NUM_TOKENS)
        tokens = first_token + lanes % NUM_TOKENS
        slots = _slots(block_table, tokens, context_len, KV_BLOCK_SIZE, ".cg")
        at = tl.where(lanes < NUM_TOKENS, keys, values) + slots.to(tl.int64) * SLOT_STRIDE
        tl.inline_asm_elementwise(
            """{
            .reg .pred p;
            setp.ne.u32 p, $3, 0;
            @p cp.async.bulk.prefetch.L2.global [$1], $2;
            mov.u32 $0, 0;
            }""",
            "=r,l,r,r",
            [at, tl.full(lanes.shape, NUM_BYTES, tl.int32), (tokens < context_len).to(tl.int32)],
            dtype=tl.int32,
            is_pure=False,
            pack=1,
        )


@triton.jit
def _attend(
    q_at: tl.tensor,  # [BLOCK_G, BLOCK_D] addresses
    q_mask: tl.tensor,  # [BLOCK_G, BLOCK_D]
    keys: tl.tensor,  # the head in slot 0
    values: tl.tensor,  # the head in slot 0
    block_table: tl.tensor,  # [blocks of the sequence]
    slots: tl.tensor,  # [BLOCK_N] int32, of the first tile
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
        offsets = slots.to(tl.int64)[:, None] * SLOT_STRIDE + dims[None, :]
        mask = is_seen[:, None] & (dims < HEAD_DIM)[None, :]
        # Of the tile, so that it is copied along with its keys: a load before the loop would hold them up.
        q = tl.load(q_at, mask=q_mask & (tile < tile_end), other=0.0)
        k = tl.load(keys + offsets, mask=mask, other=0.0)
        v = tl.load(values + offsets, mask=mask, other=0.0)
        # Carried along, so that copies of keys need not wait for it. Mostly it is in this SM's cache.
        slots = _slots(block_table, tokens + BLOCK_N, context_len, KV_BLOCK_SIZE, "")
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        scores = tl.where(is_seen[None, :], scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1))
        weights = tl.exp2(scores - new_peak[:, None])
        shrink = tl.exp2(peak - new_peak)
        total = total * shrink + tl.sum(weights, 1)
        acc = tl.dot(weights.to(v.dtype), v, acc * shrink[:, None], input_precision="ieee")
        peak = new_peak
    total = tl.where(total > 0, total, 1.0)
    return acc / total[:, None], peak + tl.log2(total)
