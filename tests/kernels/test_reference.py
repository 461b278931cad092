"""The reference operations against independent formulas in float64, and torch's own where there are any."""

import pytest
import torch
import torch.nn.functional as F

from tandem_kernels import (
    add_rms_norm,
    decode_attention,
    embedding,
    prefill_attention,
    rms_norm,
    rope,
    silu_mul,
    softmax,
    store_kv,
)

TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCES, ids=["fp32", "fp16", "bf16"])
SIZES = pytest.mark.parametrize("size", [1, 7, 127, 128, 129])


def _random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _assert_close(found, expected, dtype):
    assert found.dtype == dtype
    error = (found.double() - expected).norm() / expected.norm()
    assert error <= TOLERANCES[dtype]


@DTYPES
@SIZES
def test_rms_norm(size, dtype):
    x, weight = _random(3, size, dtype=dtype), _random(size, dtype=dtype, seed=1)
    expected = F.rms_norm(x.double(), (size,), weight.double(), 1e-5)
    _assert_close(rms_norm(x, weight, 1e-5), expected, dtype)


@DTYPES
def test_add_rms_norm_updates_the_residual(dtype):
    x, residual, weight = (_random(5, 64, dtype=dtype, seed=s) for s in range(3))
    total = x.double() + residual.double()
    found = add_rms_norm(x, residual, weight[0], 1e-6)
    _assert_close(residual, total, dtype)
    _assert_close(found, F.rms_norm(total, (64,), weight[0].double(), 1e-6), dtype)


@DTYPES
@SIZES
def test_silu_mul(size, dtype):
    gate_up = _random(3, 2 * size, dtype=dtype)
    gate, up = gate_up.double()[:, :size], gate_up.double()[:, size:]
    _assert_close(silu_mul(gate_up), gate / (1 + (-gate).exp()) * up, dtype)


@SIZES
def test_softmax_gives_nothing_to_what_is_cut_off(size):
    logits = _random(4, size)
    logits[1, size // 2 + 1 :] = float("-inf")
    found = softmax(logits)
    _assert_close(found, logits.double().exp() / logits.double().exp().sum(-1, keepdim=True), torch.float32)


def test_embedding():
    weight = _random(11, 6)
    ids = torch.tensor([3, 0, 10, 3])
    assert torch.equal(embedding(ids, weight), torch.stack([weight[i] for i in ids.tolist()]))


@DTYPES
@pytest.mark.parametrize("head_dim", [2, 64, 80, 128])
def test_rope_turns_each_pair_by_its_angle(head_dim, dtype):
    x = _random(5, 3, head_dim, dtype=dtype)
    positions = torch.tensor([0, 1, 7, 30, 2])
    angles = torch.arange(31).outer(10000.0 ** -(torch.arange(0, head_dim, 2) / head_dim))
    as_complex = torch.complex(x[..., : head_dim // 2].double(), x[..., head_dim // 2 :].double())
    turned = as_complex * torch.polar(torch.ones(1, dtype=torch.float64), angles[positions].double())[:, None]
    rope(x, positions, torch.cat((angles.cos(), angles.sin()), dim=-1))
    _assert_close(x, torch.cat((turned.real, turned.imag), dim=-1), dtype)


def test_store_kv_writes_its_slots_and_nothing_else():
    k, v = _random(3, 2, 4), _random(3, 2, 4, seed=1)
    k_cache, v_cache = torch.full((5, 2, 2, 4), 9.0), torch.full((5, 2, 2, 4), 8.0)
    store_kv(k, v, k_cache, v_cache, torch.tensor([9, 0, 4]))
    assert torch.equal(k_cache.view(10, 2, 4)[[9, 0, 4]], k)
    assert torch.equal(v_cache.view(10, 2, 4)[[9, 0, 4]], v)
    untouched = [slot for slot in range(10) if slot not in (9, 0, 4)]
    assert (k_cache.view(10, 2, 4)[untouched] == 9).all()
    assert (v_cache.view(10, 2, 4)[untouched] == 8).all()


def _naive(q, k, v, first_position):
    """Causal attention of one sequence in float64: q [Q, H, D] at first_position…, k and v [K, G, D]."""
    group = q.shape[1] // k.shape[1]
    out = torch.empty(q.shape, dtype=torch.float64)
    for place in range(q.shape[0]):
        seen = first_position + place + 1
        for head in range(q.shape[1]):
            keys, values = k[:seen, head // group].double(), v[:seen, head // group].double()
            weights = (keys @ q[place, head].double() / q.shape[2] ** 0.5).softmax(-1)
            out[place, head] = weights @ values
    return out


class Paged:
    """Sequences of random keys and values scattered over a block pool; unused slots hold NaN."""

    def __init__(self, lengths, block_size, num_kv_heads, head_dim, dtype):
        counts = [-(-length // block_size) for length in lengths]
        order = torch.randperm(sum(counts) + 3, generator=torch.Generator().manual_seed(2)).tolist()
        self.k_cache = torch.full((len(order), block_size, num_kv_heads, head_dim), float("nan"), dtype=dtype)
        self.v_cache = self.k_cache.clone()
        self.tables = torch.zeros(len(lengths), max(counts), dtype=torch.int64)
        self.keys, self.values = [], []
        for index, (length, count) in enumerate(zip(lengths, counts, strict=True)):
            blocks = torch.tensor([order.pop() for _ in range(count)])
            self.tables[index, :count] = blocks
            slots = (blocks[:, None] * block_size + torch.arange(block_size)).flatten()[:length]
            self.keys.append(_random(length, num_kv_heads, head_dim, dtype=dtype, seed=10 + index))
            self.values.append(_random(length, num_kv_heads, head_dim, dtype=dtype, seed=50 + index))
            store_kv(self.keys[-1], self.values[-1], self.k_cache, self.v_cache, slots)


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
    paged = Paged(lengths, block_size, num_kv_heads, head_dim, dtype)
    q = _random(len(lengths), num_heads, head_dim, dtype=dtype)
    context_lens = torch.tensor(lengths)
    found = decode_attention(q, paged.k_cache, paged.v_cache, paged.tables, context_lens, head_dim**-0.5)
    for index, length in enumerate(lengths):
        expected = _naive(q[index : index + 1], paged.keys[index], paged.values[index], length - 1)
        _assert_close(found[index : index + 1], expected, dtype)


@DTYPES
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim", "block_size"), GRID)
def test_prefill_attention_of_chunks_with_and_without_earlier_context(
    num_heads, num_kv_heads, head_dim, block_size, dtype
):
    lengths, new = [1, 7, 17, 33], [1, 7, 1, 20]
    paged = Paged(lengths, block_size, num_kv_heads, head_dim, dtype)
    q = _random(sum(new), num_heads, head_dim, dtype=dtype)
    starts = torch.tensor([0, *torch.tensor(new).cumsum(0).tolist()])
    found = prefill_attention(
        q, paged.k_cache, paged.v_cache, paged.tables, starts, torch.tensor(lengths), head_dim**-0.5
    )
    for index, length in enumerate(lengths):
        part = slice(int(starts[index]), int(starts[index + 1]))
        expected = _naive(q[part], paged.keys[index], paged.values[index], length - new[index])
        _assert_close(found[part], expected, dtype)
