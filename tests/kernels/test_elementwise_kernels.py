"""The kernels of norms, rotary positions, gate, softmax and embedding against plain torch in float32."""

import pytest
import torch

from support.kernel_checks import assert_close, dtypes, kernel_device, random_tensor
from tandem_kernels import reference
from tandem_kernels.embedding import embedding
from tandem_kernels.rms_norm import add_rms_norm, rms_norm
from tandem_kernels.rope_store import rope_store
from tandem_kernels.silu_mul import silu_mul
from tandem_kernels.softmax import softmax

DEVICE = kernel_device()
ON_GPU = DEVICE.type == "cuda"
DTYPES = pytest.mark.parametrize("dtype", dtypes(DEVICE))
ROW_SIZES = pytest.mark.parametrize(
    "size", [1, 7, 127, 128, 129, *([2048, 3584, 4095, 4096, 8192] if ON_GPU else [])]
)
TOKENS = pytest.mark.parametrize("num_tokens", [1, 7, 127, 129] if ON_GPU else [1, 3])


def _random(*shape, dtype, seed=0):
    return random_tensor(*shape, dtype=dtype, seed=seed, device=DEVICE)


def _strided(*shape, dtype, seed=0):
    """Random rows with others' values between them, as in a part of a fused projection."""
    return _random(*shape[:-1], shape[-1] + 5, dtype=dtype, seed=seed)[..., 2 : 2 + shape[-1]]


@DTYPES
@ROW_SIZES
@TOKENS
def test_rms_norm(num_tokens, size, dtype):
    x, weight = _strided(num_tokens, size, dtype=dtype), _random(size, dtype=dtype, seed=1)
    expected = reference.rms_norm(x.float(), weight.float(), 1e-5)
    assert_close(rms_norm(x, weight, 1e-5), expected, dtype)


@DTYPES
@pytest.mark.parametrize("head_dim", [64, 80, 96, 128] if ON_GPU else [64, 80])
def test_rms_norm_of_heads_inside_a_fused_projection(head_dim, dtype):
    heads = _random(3, 7 * head_dim, dtype=dtype).unflatten(-1, (-1, head_dim))[:, 1:7:2]
    weight = _random(head_dim, dtype=dtype, seed=1)
    found = rms_norm(heads, weight, 1e-6)
    assert found.is_contiguous()
    assert_close(found, reference.rms_norm(heads.float(), weight.float(), 1e-6), dtype)


@pytest.mark.parametrize("dtype", dtypes(DEVICE)[1:])
def test_rms_norm_rounds_before_the_weight_applies(dtype):
    x = _random(4, 64, dtype=dtype).sign()
    weight = _random(64, dtype=dtype, seed=1)
    # Normalized values are ±1 / sqrt(1.9), whatever the order of the sum: far from all numbers of 16 bits.
    assert torch.equal(rms_norm(x, weight, 0.9), reference.rms_norm(x, weight, 0.9))


@DTYPES
@ROW_SIZES
@TOKENS
def test_add_rms_norm_updates_the_residual_and_norms_it(num_tokens, size, dtype):
    x, residual = (_strided(num_tokens, size, dtype=dtype, seed=seed) for seed in range(2))
    weight, before, total = _random(size, dtype=dtype, seed=2), x.clone(), x + residual
    found = add_rms_norm(x, residual, weight, 1e-6)
    assert torch.equal(residual, total)
    assert torch.equal(x, before)
    assert_close(found, reference.rms_norm(total.float(), weight.float(), 1e-6), dtype)


@DTYPES
@pytest.mark.parametrize("size", [1, 7, 129, 1023, 1024, 1025, *([8192, 14336] if ON_GPU else [])])
@TOKENS
def test_silu_mul(num_tokens, size, dtype):
    gate_up = 4 * _strided(num_tokens, 2 * size, dtype=dtype)
    assert_close(silu_mul(gate_up), reference.silu_mul(gate_up.float()), dtype)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")
@DTYPES
def test_silu_of_large_gates_is_zero_or_the_gate(dtype):
    gates = torch.tensor([-200.0, -100.0, 0.0, 100.0, 200.0], dtype=dtype, device=DEVICE)
    found = silu_mul(torch.cat((gates, torch.ones_like(gates))).unsqueeze(0))
    assert torch.equal(found[0], gates.clamp(min=0))


@DTYPES
@pytest.mark.parametrize("size", [1, 7, 129, 8191, 8192, 8193, *([128256, 151936] if ON_GPU else [])])
def test_softmax_gives_nothing_to_what_is_cut_off(size, dtype):
    logits = 5 * _strided(4, size, dtype=dtype)
    logits[1, size // 2 + 1 :] = float("-inf")
    logits[2, : size - 1] = float("-inf")
    logits[3, :] = 1e4
    found = softmax(logits)
    assert_close(found, reference.softmax(logits), torch.float32)
    assert torch.equal(found == 0, reference.softmax(logits) == 0)


@DTYPES
@ROW_SIZES
def test_embedding(size, dtype):
    weight = _random(11, size, dtype=dtype)
    ids = torch.tensor([3, 0, 10, 3], device=DEVICE)
    assert torch.equal(embedding(ids, weight), reference.embedding(ids, weight))


class Fused:
    """Queries, keys and values as views of one projection, and a cache whose every slot is known."""

    def __init__(self, num_tokens, num_heads, num_kv_heads, head_dim, block_size, dtype):
        sizes = [heads * head_dim for heads in (num_heads, num_kv_heads, num_kv_heads)]
        qkv = _random(num_tokens, sum(sizes), dtype=dtype)
        self.qkv = [part.unflatten(-1, (-1, head_dim)) for part in qkv.split(sizes, dim=-1)]
        angles = torch.arange(64).outer(10000.0 ** -(torch.arange(0, head_dim, 2) / head_dim))
        self.cos_sin = torch.cat((angles.cos(), angles.sin()), dim=-1).to(DEVICE)
        order = torch.randperm(4 * num_tokens * block_size, generator=torch.Generator().manual_seed(1))
        self.slots = order[:num_tokens].to(DEVICE)
        self.positions = (order[-num_tokens:] % 64).to(DEVICE)
        shape = (4 * num_tokens, block_size, num_kv_heads, head_dim)
        self.caches = [_random(*shape, dtype=dtype, seed=seed) for seed in (2, 3)]


HEADS = [(1, 1), (4, 2), (14, 2), (9, 9), *([(32, 8), (24, 8)] if ON_GPU else [])]
GRID = [
    pytest.param(*heads, head_dim, block_size, id=f"{heads[0]}over{heads[1]}-d{head_dim}-b{block_size}")
    for heads in HEADS
    for head_dim in ([2, 64, 80, 96, 128] if ON_GPU else [2, 80])
    for block_size in (1, 16)
]


@DTYPES
@pytest.mark.parametrize(("num_heads", "num_kv_heads", "head_dim", "block_size"), GRID)
@TOKENS
def test_rope_store_turns_q_and_k_and_fills_the_slots(
    num_tokens, num_heads, num_kv_heads, head_dim, block_size, dtype
):
    case = Fused(num_tokens, num_heads, num_kv_heads, head_dim, block_size, dtype)
    q, k, v = case.qkv
    expected = [part.float() for part in case.qkv]
    expected_caches = [cache.float() for cache in case.caches]
    reference.rope_store(*expected, case.positions, case.cos_sin, *expected_caches, case.slots)
    untouched = torch.ones(4 * num_tokens * block_size, dtype=torch.bool).index_fill(
        0, case.slots.cpu(), False
    )
    before = [cache.flatten(0, 1)[untouched] for cache in case.caches]
    rope_store(q, k, v, case.positions, case.cos_sin, *case.caches, case.slots)
    assert_close(q, expected[0], dtype)
    assert_close(k, expected[1], dtype)
    assert torch.equal(v.float(), expected[2])
    keys, values = (cache.flatten(0, 1) for cache in case.caches)
    assert torch.equal(keys[case.slots], k)
    assert torch.equal(values[case.slots], v)
    assert torch.equal(keys[untouched], before[0])
    assert torch.equal(values[untouched], before[1])


@pytest.mark.skipif(not ON_GPU, reason="needs 9 GB of GPU memory")
def test_rope_store_reaches_slots_behind_two_to_the_31_elements():
    case = Fused(2, 8, 8, 128, 16, torch.bfloat16)
    keys = torch.empty((1 << 17) + 2, 16, 8, 128, dtype=torch.bfloat16, device=DEVICE)
    values = torch.empty_like(keys)
    slots = torch.tensor([0, (1 << 21) + 20], device=DEVICE)
    rope_store(*case.qkv, case.positions, case.cos_sin, keys, values, slots)
    assert torch.equal(keys.flatten(0, 1)[slots], case.qkv[1])
    assert torch.equal(values.flatten(0, 1)[slots], case.qkv[2])
