"""The kernels of projections against plain torch in float32, by the operation and by each kind of tile."""

import pytest
import torch

from support.kernel_checks import assert_close, dtypes, kernel_device, random_tensor
from tandem_kernels import gate_up_silu as many_tokens, reference
from tandem_kernels.gate_up_silu import gate_up_silu, has_gate_up_silu
from tandem_kernels.linear import linear
from tandem_kernels.linear_residual import linear_residual
from tandem_kernels.norm_gate_up_silu import fused_norm_gate_up_silu, norm_gate_up_silu
from tandem_kernels.norm_head import norm_head
from tandem_kernels.norm_qkv_rope_store import fused_norm_qkv_rope_store, norm_qkv_rope_store
from tandem_kernels.projection_tiles import BATCH_BUCKETS, MEASURED, Tile, projection_tile

DEVICE = kernel_device()
ON_GPU = DEVICE.type == "cuda"
EPS = 1e-5
DTYPES = pytest.mark.parametrize("dtype", dtypes(DEVICE))
TOKENS = pytest.mark.parametrize("num_tokens", [1, 2, 3, 7, 33, 127] if ON_GPU else [1, 3, 7])
SHAPES = pytest.mark.parametrize(
    ("size", "num_rows"),
    [(64, 20), (112, 12), *([(896, 130), (960, 896), (3584, 520), (14336, 256)] if ON_GPU else [])],
    ids=lambda value: str(value),
)
SIZES = pytest.mark.parametrize("size", [64, 112, *([448, 960] if ON_GPU else [])])
# Of every kind of kernel one; sizes and rows of the tests are multiples of their blocks and are not.
TILES = {
    "one-token": Tile(1, 4, 256, 1),
    "one-token-8-rows": Tile(1, 8, 1024, 4),
    "two-tokens": Tile(2, 2, 512, 2),
    "two-tokens-8-rows": Tile(2, 8, 256, 1),
    "tensor-cores": Tile(16, 16, 64, 2, 3),
    "tensor-cores-64-rows": Tile(16, 64, 128, 4, 4),
    "tensor-cores-32-tokens": Tile(32, 32, 64, 4, 3),
    "tensor-cores-64-tokens": Tile(64, 64, 64, 4, 3),
    "tensor-cores-128-tokens": Tile(128, 128, 64, 8, 4),
}
SPLIT_TILES = {
    "one-token-split-2": Tile(1, 4, 256, 1, split_k=2),
    "two-tokens-split-3": Tile(2, 2, 128, 1, split_k=3),
    "tensor-cores-split-4": Tile(16, 64, 64, 4, 3, 4),
}


def _random(*shape, dtype, seed=0, scale=1.0):
    return random_tensor(*shape, dtype=dtype, seed=seed, device=DEVICE) * scale


def _weight(num_rows, size, dtype, seed=1):
    """Products with it are about as large as what it multiplies."""
    return _random(num_rows, size, dtype=dtype, seed=seed, scale=size**-0.5)


def _tiles(tiles):
    return pytest.mark.parametrize("tile", tiles.values(), ids=list(tiles))


def _skip_unless_for(tile, dtype):
    if dtype == torch.float32 and tile.has_tensor_cores and not ON_GPU:
        pytest.skip("float32 never gets tensor cores; the GPU's run covers the code")


@DTYPES
@SHAPES
@TOKENS
def test_linear_residual_adds_to_the_residual(num_tokens, num_rows, size, dtype):
    x, residual = _random(num_tokens, size, dtype=dtype), _random(num_tokens, num_rows, dtype=dtype, seed=2)
    weight, before = _weight(num_rows, size, dtype), x.clone()
    expected = residual.float()
    reference.linear_residual(x.float(), weight.float(), expected)
    linear_residual(x, weight, residual)
    assert_close(residual, expected, dtype)
    assert torch.equal(x, before)


@DTYPES
@SIZES
@_tiles(TILES | SPLIT_TILES)
@pytest.mark.parametrize("is_added", [False, True], ids=["written", "added"])
def test_linear_by_each_kind_of_tile(is_added, tile, size, dtype):
    _skip_unless_for(tile, dtype)
    num_rows, num_tokens = 104 if ON_GPU else 20, tile.block_m - tile.block_m // 4
    x, weight = _random(num_tokens, size, dtype=dtype), _weight(num_rows, size, dtype)
    # Guards behind the last token.
    memory = _random(num_tokens + 1, num_rows, dtype=dtype, seed=2)
    out, guard = memory[:num_tokens], memory[num_tokens].clone()
    expected = x.float() @ weight.float().T + (out.float() if is_added else 0)
    if not is_added:
        out.fill_(torch.nan)
    linear(x, weight, out, tile, is_added=is_added)
    assert_close(out, expected, dtype)
    assert torch.equal(memory[num_tokens], guard)


@pytest.mark.parametrize("dtype", dtypes(DEVICE)[1:])
@_tiles(SPLIT_TILES)
def test_split_products_repeat_bit_for_bit(tile, dtype):
    size, num_rows = (2048, 2048) if ON_GPU else (320, 20)
    x, weight = _random(tile.block_m, size, dtype=dtype), _weight(num_rows, size, dtype)
    outs = [torch.empty(tile.block_m, num_rows, dtype=dtype, device=DEVICE) for _ in range(3)]
    for out in outs:
        linear(x, weight, out, tile)
    assert torch.equal(outs[0], outs[1])
    assert torch.equal(outs[0], outs[2])


@DTYPES
@SHAPES
@TOKENS
def test_norm_gate_up_silu(num_tokens, num_rows, size, dtype):
    residual, norm = _random(num_tokens, size, dtype=dtype, scale=3), _random(size, dtype=dtype, seed=2)
    weight = _weight(2 * num_rows, size, dtype)
    expected = reference.norm_gate_up_silu(residual.float(), norm.float(), EPS, weight.float())
    assert_close(norm_gate_up_silu(residual, norm, EPS, weight), expected, dtype)


@DTYPES
@SIZES
@_tiles(TILES)
def test_norm_gate_up_silu_by_each_kind_of_tile(tile, size, dtype):
    _skip_unless_for(tile, dtype)
    num_tokens = tile.block_m - tile.block_m // 4
    residual, norm = _random(num_tokens, size, dtype=dtype, scale=3), _random(size, dtype=dtype, seed=2)
    weight = _weight(2 * (52 if ON_GPU else 10), size, dtype)
    expected = reference.norm_gate_up_silu(residual.float(), norm.float(), EPS, weight.float())
    assert_close(fused_norm_gate_up_silu(residual, norm, EPS, weight, tile), expected, dtype)


HOPPER = pytest.mark.skipif(
    ON_GPU and torch.cuda.get_device_capability()[0] != 9, reason="needs a Hopper GPU or the interpreter"
)


@HOPPER
@pytest.mark.parametrize("dtype", dtypes(DEVICE)[1:])
@pytest.mark.parametrize("size", [64, 200, *([896, 2048] if ON_GPU else [])])
@pytest.mark.parametrize(
    ("num_tokens", "num_rows"),
    [(1, 8), (128, 128), (130, 264), *([(1000, 4864), (3968, 2048), (2100, 1032)] if ON_GPU else [])],
    ids=lambda value: str(value),
)
def test_gate_up_silu_of_many_tokens(num_tokens, num_rows, size, dtype):
    # Tokens behind the last: none of them may count, not even as a NaN.
    memory = _random(num_tokens + 128, size, dtype=dtype)
    memory[num_tokens:] = torch.nan
    x, weight = memory[:num_tokens], _weight(2 * num_rows, size, dtype)
    expected = reference.silu_mul(x.float() @ weight.float().T)
    assert_close(gate_up_silu(x, weight), expected, dtype)


@HOPPER
@pytest.mark.skipif(not ON_GPU, reason="the interpreter has neither graphs nor bfloat16")
def test_many_tokens_give_what_few_of_them_give_from_a_graph_too():
    residual, norm = (_random(*shape, dtype=torch.bfloat16) for shape in ((2048, 2048), (2048,)))
    weight = _weight(16384, 2048, torch.bfloat16)
    assert has_gate_up_silu(residual, weight)
    norm_gate_up_silu(residual, norm, EPS, weight)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        many = norm_gate_up_silu(residual, norm, EPS, weight)
    residual.copy_(residual.flip(0))
    graph.replay()
    few = torch.cat([norm_gate_up_silu(part, norm, EPS, weight) for part in residual.split(16)])
    assert_close(many, few.float(), torch.bfloat16)


def test_large_steps_are_for_the_kernel_where_it_is_faster(monkeypatch):
    monkeypatch.setattr(many_tokens, "num_sms", lambda device: 132)
    monkeypatch.setattr(many_tokens, "is_hopper", lambda x: True)
    weight = torch.empty(16384, 2048, dtype=torch.bfloat16, device="meta")

    def is_taken(num_tokens, weight=weight):
        x = torch.empty(num_tokens, weight.shape[1], dtype=weight.dtype, device="meta")
        return has_gate_up_silu(x, weight)

    # 64 tiles for each 128 tokens, on 132 SMs.
    sizes = (128, 256, 384, 512, 640, 768, 896, 1024, 1025, 4000)
    assert [size for size in sizes if is_taken(size)] == [256, 512, 768, 1024, 1025, 4000]
    assert not is_taken(2048, weight.float())
    assert not is_taken(2048, torch.empty(200, 2047, dtype=torch.bfloat16, device="meta"))
    monkeypatch.setattr(many_tokens, "is_hopper", lambda x: False)
    assert not is_taken(2048)


@pytest.mark.parametrize("num_tokens", [1, 7])
def test_float16_of_large_residuals_does_not_overflow(num_tokens):
    residual = _random(num_tokens, 64, dtype=torch.float16, scale=1e4)
    norm, weight = torch.full_like(residual[0], 20), _weight(32, 64, torch.float16) / 20
    expected = reference.norm_gate_up_silu(residual.float(), norm.float(), EPS, weight.float())
    assert_close(norm_gate_up_silu(residual, norm, EPS, weight), expected, torch.float16)


@DTYPES
@SHAPES
@TOKENS
def test_norm_head_writes_float32_logits(num_tokens, num_rows, size, dtype):
    vocab_size = num_rows + 3
    residual, norm = _random(num_tokens, size, dtype=dtype, scale=3), _random(size, dtype=dtype, seed=2)
    weight = _weight(vocab_size, size, dtype)
    expected, found = (torch.full((num_tokens, vocab_size), torch.nan, device=DEVICE) for _ in range(2))
    reference.norm_head(residual.float(), norm.float(), EPS, weight.float(), expected)
    norm_head(residual, norm, EPS, weight, found)
    # Operands are rounded as the type has it, the result is not.
    assert_close(found.to(dtype), expected, dtype)
    assert found.isfinite().all()


class Layer:
    """What `norm_qkv_rope_store` takes, and a cache whose every slot is known."""

    def __init__(self, num_tokens, size, num_heads, num_kv_heads, head_dim, dtype, index_dtype=torch.int64):
        num_rows = (num_heads + 2 * num_kv_heads) * head_dim
        self.dtype = dtype
        self.residual = _random(num_tokens, size, dtype=dtype, scale=3)
        self.norm = _random(size, dtype=dtype, seed=1)
        self.weight = _weight(num_rows, size, dtype, seed=2)
        self.bias = _random(num_rows, dtype=dtype, seed=3)
        self.head_norms = [_random(head_dim, dtype=dtype, seed=seed) for seed in (4, 5)]
        angles = torch.arange(64).outer(10000.0 ** -(torch.arange(0, head_dim, 2) / head_dim))
        order = torch.randperm(4 * num_tokens * 4, generator=torch.Generator().manual_seed(1))
        self.slots = order[:num_tokens].to(DEVICE, index_dtype)
        positions = (order[-num_tokens:] % 64).to(DEVICE, torch.int32)
        self.rotary = positions, torch.cat((angles.cos(), angles.sin()), dim=-1).to(DEVICE)
        shape = (4 * num_tokens, 4, num_kv_heads, head_dim)
        self.caches = [_random(*shape, dtype=dtype, seed=seed) for seed in (6, 7)]

    def check(self, has_bias, has_head_norms, run):
        """Compares `run(bias, head_norms, caches)`, which returns queries, and keys and values if it has
        them, with the reference; slots that are not written too.
        """
        bias = self.bias if has_bias else None
        head_norms = self.head_norms if has_head_norms else [None, None]
        expected_caches = [cache.float() for cache in self.caches]
        expected, _ = reference.norm_qkv_rope_store(
            self.residual.float(), self.norm.float(), EPS, self.weight.float(),
            None if bias is None else bias.float(),
            *(None if norm is None else norm.float() for norm in head_norms),
            *self.rotary, *expected_caches, self.slots,
        )  # fmt: skip
        caches = [cache.clone() for cache in self.caches]
        q, kv = run(bias, head_norms, caches)
        assert_close(q, expected, self.dtype)
        written = torch.zeros(caches[0].shape[0] * 4, dtype=torch.bool, device=DEVICE)
        written[self.slots.long()] = True
        for found, before, wanted in zip(caches, self.caches, expected_caches, strict=True):
            assert_close(found.flatten(0, 1)[written], wanted.flatten(0, 1)[written], self.dtype)
            assert torch.equal(found.flatten(0, 1)[~written], before.flatten(0, 1)[~written])
        if kv is not None:
            stored = torch.cat([cache.flatten(0, 1)[self.slots.long()] for cache in caches], dim=1)
            assert torch.equal(kv, stored)


HEADS = pytest.mark.parametrize(
    ("num_heads", "num_kv_heads", "head_dim"),
    [(2, 1, 16), (1, 1, 12), *([(7, 1, 80), (32, 8, 64), (14, 2, 64), (8, 2, 128)] if ON_GPU else [])],
    ids=lambda value: str(value),
)


@DTYPES
@HEADS
@pytest.mark.parametrize("size", [64, *([896] if ON_GPU else [])])
@pytest.mark.parametrize(
    ("has_bias", "has_head_norms"), [(False, False), (True, False), (False, True), (True, True)],
    ids=["plain", "bias", "head-norms", "both"],
)  # fmt: skip
@TOKENS
def test_norm_qkv_rope_store(
    num_tokens, has_bias, has_head_norms, size, num_heads, num_kv_heads, head_dim, dtype
):
    index_dtype = torch.int32 if has_bias else torch.int64
    layer = Layer(num_tokens, size, num_heads, num_kv_heads, head_dim, dtype, index_dtype)

    def run(bias, head_norms, caches):
        return norm_qkv_rope_store(
            layer.residual, layer.norm, EPS, layer.weight, bias, *head_norms, *layer.rotary, *caches,
            layer.slots,
        )  # fmt: skip

    layer.check(has_bias, has_head_norms, run)


@DTYPES
@HEADS
@pytest.mark.parametrize("has_bias", [False, True], ids=["plain", "bias"])
@_tiles(TILES)
def test_norm_qkv_rope_store_by_each_kind_of_tile(tile, has_bias, num_heads, num_kv_heads, head_dim, dtype):
    _skip_unless_for(tile, dtype)
    layer = Layer(tile.block_m - tile.block_m // 4, 112, num_heads, num_kv_heads, head_dim, dtype)

    def run(bias, head_norms, caches):
        return fused_norm_qkv_rope_store(
            layer.residual, layer.norm, EPS, layer.weight, bias, *layer.rotary, *caches, layer.slots, tile
        ), None

    layer.check(has_bias, False, run)


def test_measured_tiles_fit_their_buckets():
    for entries in MEASURED.values():
        assert set(entries) == set(BATCH_BUCKETS)
        for bucket, entry in entries.items():
            assert entry is None or Tile(*entry).block_m >= bucket


def test_large_batches_go_to_cublas():
    x, weight = torch.empty(65, 64, dtype=torch.float16), torch.empty(32, 64, dtype=torch.float16)
    assert projection_tile("linear_residual", x, weight) is None
    assert projection_tile("linear_residual", x[:3].float(), weight.float()) is None
    assert projection_tile("linear_residual", x[:1], weight) is not None


def test_tiles_shrink_to_the_shared_memory():
    tile = Tile(16, 64, 128, 4, 6, 2)
    assert tile.within(232_448) == tile
    assert tile.within(101_376) == Tile(16, 64, 128, 4, 4, 2)
    assert Tile(1, 4, 2048, 4).within(1024) == Tile(1, 4, 2048, 4)
