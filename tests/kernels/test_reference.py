"""The reference operations against independent formulas in float64, and torch's own where there are any."""

import pytest
import torch
import torch.nn.functional as F

from support.attention_cases import PagedSequences, naive_attention
from support.kernel_checks import TOLERANCES, assert_close, random_tensor
from tandem_kernels import (
    add_rms_norm,
    decode_attention,
    embedding,
    prefill_attention,
    rms_norm,
    rope_store,
    silu_mul,
    softmax,
)
from tandem_kernels.decode_plan import empty_plan

# The reference computes masked lanes, where NaN would stay: the engine's cache never holds any.
UNUSED = 7.0
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=["fp32", "fp16", "bf16"])
SIZES = pytest.mark.parametrize("size", [1, 7, 127, 128, 129])


@DTYPES
@SIZES
def test_rms_norm(size, dtype):
    x, weight = random_tensor(3, size, dtype=dtype), random_tensor(size, dtype=dtype, seed=1)
    expected = F.rms_norm(x.double(), (size,), weight.double(), 1e-5)
    assert_close(rms_norm(x, weight, 1e-5), expected, dtype)


@DTYPES
def test_add_rms_norm_updates_the_residual(dtype):
    x, residual, weight = (random_tensor(5, 64, dtype=dtype, seed=s) for s in range(3))
    total = x.double() + residual.double()
    found = add_rms_norm(x, residual, weight[0], 1e-6)
    assert_close(residual, total, dtype)
    assert_close(found, F.rms_norm(total, (64,), weight[0].double(), 1e-6), dtype)


@DTYPES
@SIZES
def test_silu_mul(size, dtype):
    gate_up = random_tensor(3, 2 * size, dtype=dtype)
    gate, up = gate_up.double()[:, :size], gate_up.double()[:, size:]
    assert_close(silu_mul(gate_up), gate / (1 + (-gate).exp()) * up, dtype)


@SIZES
def test_softmax_gives_nothing_to_what_is_cut_off(size):
    logits = random_tensor(4, size)
    logits[1, size // 2 + 1 :] = float("-inf")
    found = softmax(logits)
    assert_close(found, logits.double().exp() / logits.double().exp().sum(-1, keepdim=True), torch.float32)


def test_embedding():
    weight = random_tensor(11, 6)
    ids = torch.tensor([3, 0, 10, 3])
    assert torch.equal(embedding(ids, weight), torch.stack([weight[i] for i in ids.tolist()]))


@DTYPES
@pytest.mark.parametrize("head_dim", [2, 64, 80, 128])
def test_rope_store_turns_each_pair_by_its_angle(head_dim, dtype):
    q, k = random_tensor(5, 3, head_dim, dtype=dtype), random_tensor(5, 1, head_dim, dtype=dtype, seed=1)
    positions = torch.tensor([0, 1, 7, 30, 2])
    angles = torch.arange(31).outer(10000.0 ** -(torch.arange(0, head_dim, 2) / head_dim))
    turn = torch.polar(torch.ones(1, dtype=torch.float64), angles[positions].double())[:, None]
    expected = [_as_complex(x) * turn for x in (q, k)]
    cache = torch.zeros(5, 1, 1, head_dim, dtype=dtype)
    cos_sin = torch.cat((angles.cos(), angles.sin()), dim=-1)
    rope_store(q, k, k.clone(), positions, cos_sin, cache, cache.clone(), torch.arange(5))
    for found, turned in zip((q, k), expected, strict=True):
        assert_close(found, torch.cat((turned.real, turned.imag), dim=-1), dtype)


def _as_complex(x):
    first, second = x.double().chunk(2, dim=-1)
    return torch.complex(first, second)


def test_rope_store_writes_its_slots_and_nothing_else():
    # Parts of one projection, as the model has them: the writes go through the views.
    q, k, v = random_tensor(3, 10, 4).split((6, 2, 2), dim=1)
    before = v.clone()
    k_cache, v_cache = torch.full((5, 2, 2, 4), 9.0), torch.full((5, 2, 2, 4), 8.0)
    positions, slots = torch.tensor([0, 1, 2]), torch.tensor([9, 0, 4])
    rope_store(q, k, v, positions, random_tensor(3, 4), k_cache, v_cache, slots)
    assert torch.equal(k_cache.view(10, 2, 4)[slots], k)
    assert torch.equal(v_cache.view(10, 2, 4)[slots], before)
    untouched = [slot for slot in range(10) if slot not in (9, 0, 4)]
    assert (k_cache.view(10, 2, 4)[untouched] == 9).all()
    assert (v_cache.view(10, 2, 4)[untouched] == 8).all()


GRID = [
    pytest.param(
        num_heads,
        num_kv_heads,
        head_dim,
        block_size,
        id=f"{num_heads}over{num_kv_heads}-d{head_dim}-b{block_size}",
    )
    for num_heads, num_kv_heads in ((1, 1), (4, 2), (7, 1), (8, 1))
    for head_dim in (16, 80)
    for block_size in (1, 16)
]


@DTYPES
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim", "block_size"), GRID)
def test_decode_attention(num_heads, num_kv_heads, head_dim, block_size, dtype):
    lengths = [1, 7, 16, 17, 33]
    paged = PagedSequences(lengths, block_size, num_kv_heads, head_dim, dtype, unused=UNUSED)
    q = random_tensor(len(lengths), num_heads, head_dim, dtype=dtype)
    plan = empty_plan(len(lengths), num_heads, num_kv_heads, head_dim, q.device)
    found = decode_attention(q, *paged.cache, torch.tensor(lengths), head_dim**-0.5, plan)
    for index, length in enumerate(lengths):
        expected = naive_attention(q[index : index + 1], paged.keys[index], paged.values[index], length - 1)
        assert_close(found[index : index + 1], expected, dtype)


@DTYPES
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim", "block_size"), GRID)
def test_prefill_attention_of_chunks_with_and_without_earlier_context(
    num_heads, num_kv_heads, head_dim, block_size, dtype
):
    lengths, new = [1, 7, 17, 33], [1, 7, 1, 20]
    paged = PagedSequences(lengths, block_size, num_kv_heads, head_dim, dtype, unused=UNUSED)
    q = random_tensor(sum(new), num_heads, head_dim, dtype=dtype)
    starts = torch.tensor([0, *torch.tensor(new).cumsum(0).tolist()])
    found = prefill_attention(q, *paged.cache, starts, torch.tensor(lengths), head_dim**-0.5)
    for index, length in enumerate(lengths):
        part = slice(int(starts[index]), int(starts[index + 1]))
        expected = naive_attention(q[part], paged.keys[index], paged.values[index], length - new[index])
        assert_close(found[part], expected, dtype)
