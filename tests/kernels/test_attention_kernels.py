"""The attention kernels against plain attention in float64, over a pool whose other slots hold NaN."""

import itertools

import pytest
import torch

from support.attention_cases import PagedSequences, naive_attention
from support.kernel_checks import assert_close, dtypes, kernel_device, random_tensor
from tandem_kernels.decode_attention import decode_attention
from tandem_kernels.decode_plan import (
    BEGIN,
    CONTEXT_LEN,
    END,
    FIRST_WORKER,
    LAST_WORKER,
    NUM_PIECES,
    ROW,
    SEQ,
    empty_plan,
)
from tandem_kernels.plan_decode import MAX_LONGER, plan_decode
from tandem_kernels.prefill_attention import prefill_attention, tiled_prefill_attention
from tandem_kernels.prefill_tiles import tile_shape

DEVICE = kernel_device()
ON_GPU = DEVICE.type == "cuda"
ON_HOPPER = ON_GPU and torch.cuda.get_device_capability()[0] == 9
NEEDS_GPU = pytest.mark.skipif(
    not ON_GPU, reason="the interpreter is too slow for this, or has no such thing"
)
DTYPES = pytest.mark.parametrize("dtype", dtypes(DEVICE))
SMALL_HEADS = [(2, 2, 16), (4, 2, 80), (7, 1, 64)]
LARGE_HEADS = [(3, 1, 96), (32, 8, 64), (5, 1, 80), (12, 2, 64), (28, 4, 128), (8, 1, 128), (3, 3, 128)]
HEADS = pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "head_dim"),
    [
        pytest.param(*heads, id=f"{heads[0]}over{heads[1]}-d{heads[2]}")
        for heads in SMALL_HEADS + (LARGE_HEADS if ON_GPU else [])
    ],
)
LOADS = pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
BLOCK_SIZES = pytest.mark.parametrize("block_size", [1, 16])
# 0 is a row that only fills up a captured batch.
DECODE_LENGTHS = [1, 7, 0, 127, 128, 129, 300] + ([4097, 1000, 0, 31, 32, 33, 2048] if ON_GPU else [])
MANY_PROGRAMS = 528 if ON_GPU else 16
# Context lengths and chunk lengths: whole prompts, continued ones, single tokens, nothing, edges of tiles.
CHUNKS = [(1, 1), (129, 129), (17, 1), (40, 0), (70, 33)]
if ON_GPU:
    CHUNKS += [(127, 127), (128, 128), (1000, 1000), (1000, 257), (4096, 64), (63, 63), (65, 2)]


def _paged(lengths, block_size, num_kv_heads, head_dim, dtype, seed=10):
    return PagedSequences(lengths, block_size, num_kv_heads, head_dim, dtype, device=DEVICE, seed=seed)


def _random(*shape, dtype, seed=0):
    return random_tensor(*shape, dtype=dtype, seed=seed, device=DEVICE)


def _tensor(values):
    return torch.tensor(values, dtype=torch.int32, device=DEVICE)


def _decode(q, paged, lengths, plan=None):
    plan = plan or _plan(lengths, None, q.shape[1], paged.k_cache.shape[2], q.shape[2], rows=paged.rows)
    return decode_attention(q, *paged.cache, _tensor(lengths), q.shape[2] ** -0.5, plan)


def _assert_decoded(found, q, paged, lengths):
    for row, length in enumerate(lengths):
        part = slice(row, row + 1)
        expected = torch.zeros_like(q[part])
        if length > 0:
            expected = naive_attention(q[part], paged.keys[row], paged.values[row], length - 1)
        assert_close(found[part], expected, q.dtype)


def _plan(lengths, num_programs, num_heads, num_kv_heads, head_dim, rows, capacity=None):
    size = capacity or len(lengths)
    plan = empty_plan(size, num_heads, num_kv_heads, head_dim, DEVICE, num_programs)
    return plan_decode(_tensor(lengths), rows, plan)


@DTYPES
@BLOCK_SIZES
@HEADS
def test_decode_of_mixed_lengths(num_heads, num_kv_heads, head_dim, block_size, dtype):
    paged = _paged(DECODE_LENGTHS, block_size, num_kv_heads, head_dim, dtype)
    q = _random(len(DECODE_LENGTHS), num_heads, head_dim, dtype=dtype)
    _assert_decoded(_decode(q, paged, DECODE_LENGTHS), q, paged, DECODE_LENGTHS)


@pytest.mark.parametrize("num_programs", [1, 2, 6, MANY_PROGRAMS])
def test_decode_by_any_number_of_programs(num_programs):
    lengths = [900, 1, 0, 5, 400]
    paged = _paged(lengths, 16, 1, 128, torch.float32)
    # Wide scores, so that pieces differ much in weight; heads that merge four pieces at a time.
    q = 4 * _random(5, 8, 128, dtype=torch.float32)
    plan = _plan(lengths, num_programs, 8, 1, 128, paged.rows)
    _assert_decoded(_decode(q, paged, lengths, plan), q, paged, lengths)


def test_decode_repeats_bit_for_bit_and_one_plan_serves_all_layers():
    lengths = [1100, 3, 500]
    layers = [_paged(lengths, 16, 1, 64, torch.float16, seed=seed) for seed in (10, 20)]
    q = _random(3, 4, 64, dtype=torch.float16)
    plan = _plan(lengths, MANY_PROGRAMS, 4, 1, 64, layers[0].rows)
    first, second, again = (_decode(q, paged, lengths, plan) for paged in (*layers, layers[0]))
    assert torch.equal(first, again)
    _assert_decoded(first, q, layers[0], lengths)
    _assert_decoded(second, q, layers[1], lengths)
    assert not plan.arrivals.any()


def test_a_plan_with_room_to_spare_serves_one_step_after_another():
    plan = empty_plan(9, 4, 2, 16, DEVICE, num_programs=8)
    for lengths in ([600, 2, 0, 70], [1], [33, 900]):
        paged = _paged(lengths, 16, 2, 16, torch.float32)
        q = _random(len(lengths), 4, 16, dtype=torch.float32)
        found = _decode(q, paged, lengths, plan_decode(_tensor(lengths), paged.rows, plan))
        _assert_decoded(found, q, paged, lengths)


PLANNED_LENGTHS = {
    "one": [328],
    "few-equal": [328] * 16,
    "as-many-as-workers": [384] * 66,
    "many": [300] * 200,
    "mixed": [1, 131072, 0, 64, 65, *range(1, 2000, 37)],
    "nothing": [0, 0],
}


@pytest.mark.parametrize("num_workers", [1, 7, 66] + ([264] if ON_GPU else []))
@pytest.mark.parametrize("lengths", PLANNED_LENGTHS.values(), ids=PLANNED_LENGTHS)
def test_a_plan_covers_every_tile_once_and_spreads_them_evenly(lengths, num_workers):
    rows = _tensor(range(1000, 1000 + len(lengths)))
    plan = _plan(lengths, num_workers, 1, 1, 16, rows, capacity=200)
    tiles = [max(1, -(-length // plan.tile_tokens)) for length in lengths]
    by_worker = _pieces(plan)
    in_order = [piece for pieces in by_worker for piece in pieces]
    pieces_of = {seq: list(pieces) for seq, pieces in itertools.groupby(in_order, lambda piece: piece[SEQ])}
    assert list(pieces_of) == list(range(len(lengths)))
    for seq, pieces in pieces_of.items():
        assert [piece[BEGIN] for piece in pieces] == [0, *(piece[END] for piece in pieces[:-1])]
        assert pieces[-1][END] == tiles[seq]
        workers = {index for index, each in enumerate(by_worker) if each and seq in {p[SEQ] for p in each}}
        for piece in pieces:
            assert (piece[ROW], piece[CONTEXT_LEN]) == (1000 + seq, lengths[seq])
            assert set(range(piece[FIRST_WORKER], piece[LAST_WORKER] + 1)) == workers
    work = [sum(piece[END] - piece[BEGIN] for piece in pieces) for pieces in by_worker]
    assert max(work) <= max(2, -(-sum(tiles) // num_workers)) + MAX_LONGER


def test_sequences_begin_with_a_worker_where_there_are_enough():
    for lengths in ([328], [328] * 16, [1000] * 3, [384] * 66):
        plan = _plan(lengths, 66, 1, 1, 16, _tensor(range(len(lengths))))
        assert max(map(len, _pieces(plan))) == 1


def _pieces(plan):
    """The pieces of each worker."""
    by_seq = plan.seq_pieces.tolist()
    return [
        [first, *by_seq[first[SEQ] + 1 : first[SEQ] + first[NUM_PIECES]]] if first[NUM_PIECES] > 0 else []
        for first in plan.worker_pieces.tolist()
    ]


@pytest.mark.parametrize("block_size", [2, 64, 256])
def test_attention_over_other_block_sizes_and_narrow_tables(block_size):
    lengths = [150, 70]
    paged = _paged(lengths, block_size, 1, 16, torch.float32)
    q = _random(2, 3, 16, dtype=torch.float32)
    _assert_decoded(_decode(q, paged, lengths), q, paged, lengths)
    found = prefill_attention(q, *paged.cache, _tensor([0, 1, 2]), _tensor(lengths), 0.25)
    _assert_decoded(found, q, paged, lengths)


def test_attention_of_queries_inside_a_fused_projection():
    lengths = [40, 20]
    paged = _paged(lengths, 16, 2, 16, torch.float32)
    q = _random(2, 8, 16, dtype=torch.float32)[:, 1:5]
    _assert_decoded(_decode(q, paged, lengths), q, paged, lengths)
    found = prefill_attention(q, *paged.cache, _tensor([0, 1, 2]), _tensor(lengths), 0.25)
    _assert_decoded(found, q, paged, lengths)


@DTYPES
@LOADS
@BLOCK_SIZES
@HEADS
def test_prefill_of_chunks_with_and_without_earlier_context(
    num_heads, num_kv_heads, head_dim, block_size, is_large, dtype
):
    lengths, new = zip(*CHUNKS, strict=True)
    paged = _paged(lengths, block_size, num_kv_heads, head_dim, dtype)
    starts = [0, *itertools.accumulate(new)]
    q = _random(starts[-1], num_heads, head_dim, dtype=dtype)
    tile = tile_shape(head_dim, dtype, is_hopper=ON_HOPPER, is_fresh=False, is_large=is_large)
    lens = _tensor(starts), _tensor(lengths)
    found = tiled_prefill_attention(q, *paged.cache, *lens, head_dim**-0.5, None, tile)
    for index, (length, count) in enumerate(CHUNKS):
        part = slice(starts[index], starts[index + 1])
        expected = naive_attention(q[part], paged.keys[index], paged.values[index], length - count)
        if count > 0:
            assert_close(found[part], expected, dtype)


@pytest.mark.parametrize("dtype", [torch.float16] + [torch.bfloat16] * ON_GPU)
@pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "head_dim"),
    [(2, 2, 16), (7, 1, 64), (2, 1, 128)] + ([(32, 8, 128)] * ON_GPU),
)
def test_prefill_of_fresh_chunks_reads_what_lies_beside_the_queries(num_heads, num_kv_heads, head_dim, dtype):
    lengths = [1, 129, 17, 64, 70] + [1000, 128, 63] * ON_GPU
    qkv = _random(sum(lengths), num_heads + 2 * num_kv_heads, head_dim, dtype=dtype)
    qkv[130 : 130 + 17, -num_kv_heads:] = torch.nan
    q, kv = qkv[:, :num_heads], qkv[:, num_heads:]
    nowhere = torch.full((1, 16, num_kv_heads, head_dim), torch.nan, dtype=dtype, device=DEVICE)
    tables = torch.zeros(len(lengths), 1, dtype=torch.int32, device=DEVICE)
    starts = [0, *itertools.accumulate(lengths)]
    arguments = (nowhere, nowhere, tables, _tensor(range(len(lengths))), _tensor(starts), _tensor(lengths))
    tile = tile_shape(head_dim, dtype, is_hopper=True, is_fresh=True, is_large=True)
    found = tiled_prefill_attention(q, *arguments, head_dim**-0.5, kv, tile)
    for index, (begin, end) in enumerate(itertools.pairwise(starts)):
        if index == 2:  # whose values are broken, which is nobody else's trouble
            assert found[begin:end].isnan().all()
            continue
        keys, values = kv[begin:end].chunk(2, 1)
        assert_close(found[begin:end], naive_attention(q[begin:end], keys, values, 0), dtype)


@NEEDS_GPU
@BLOCK_SIZES
def test_attention_to_a_long_context_beyond_32_bit_offsets(block_size):
    # 2.2 million slots of 8 heads of 128: the last ones lie 2.25e9 elements into the cache.
    length, num_kv_heads, head_dim = 131072, 8, 128
    num_blocks = 2_200_000 // block_size
    shape = (num_blocks, block_size, num_kv_heads, head_dim)
    k_cache, v_cache = (torch.full(shape, torch.nan, dtype=torch.bfloat16, device=DEVICE) for _ in range(2))
    count = length // block_size
    k_cache[-count:].normal_()
    v_cache[-count:].normal_()
    tables = torch.arange(num_blocks - count, num_blocks, dtype=torch.int32, device=DEVICE)[None]
    paged = (k_cache, v_cache, tables, _tensor([0]))
    q = _random(1, 32, head_dim, dtype=torch.bfloat16)
    keys, values = (cache[-count:].flatten(0, 1) for cache in (k_cache, v_cache))
    expected = naive_attention(q, keys, values, length - 1)
    context_lens, scale = _tensor([length]), head_dim**-0.5
    plan = _plan([length], None, 32, num_kv_heads, head_dim, paged[3])
    found = decode_attention(q, *paged, context_lens, scale, plan)
    assert_close(found, expected, torch.bfloat16)
    found = prefill_attention(q, *paged, _tensor([0, 1]), context_lens, scale)
    assert_close(found, expected, torch.bfloat16)


@NEEDS_GPU
def test_a_captured_graph_follows_the_lengths():
    longest = [2000, 1500, 900, 64]
    paged = _paged(longest, 16, 2, 64, torch.bfloat16)
    q = _random(4, 8, 64, dtype=torch.bfloat16)
    context_lens, plan = _tensor(longest), empty_plan(4, 8, 2, 64, DEVICE)

    def step():
        plan_decode(context_lens, paged.rows, plan)
        return decode_attention(q, *paged.cache, context_lens, 0.125, plan)

    step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    for lengths in (longest, [1, 0, 33, 64], [1999, 1, 900, 0]):
        context_lens.copy_(_tensor(lengths))
        graph.replay()
        shorter = [keys[:length] for keys, length in zip(paged.keys, lengths, strict=True)]
        for row, (keys, length) in enumerate(zip(shorter, lengths, strict=True)):
            expected = torch.zeros_like(q[row : row + 1])
            if length > 0:
                values = paged.values[row][:length]
                expected = naive_attention(q[row : row + 1], keys, values, length - 1)
            assert_close(found[row : row + 1], expected, torch.bfloat16)
