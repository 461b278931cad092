"""The projections of known models on memory of their own: what the sweep and the benchmark run."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from tandem_kernels import linear_residual, norm_gate_up_silu, norm_head, norm_qkv_rope_store
from tandem_kernels.linear import linear, norm_linear
from tandem_kernels.norm_gate_up_silu import fused_norm_gate_up_silu
from tandem_kernels.norm_qkv_rope_store import fused_norm_qkv_rope_store
from tandem_kernels.projection_tiles import Tile
from tandem_kernels.rms_norm import rms_norm
from tandem_kernels.rope_store import rope_store
from tandem_kernels.silu_mul import silu_mul

EPS = 1e-5
KV_BLOCK_SIZE = 16
_CONTEXT_LENGTH = 8192
_MIN_MOVED_BYTES = 240 << 20


@dataclass(frozen=True)
class Shape:
    """What of a model's shape the projections see."""

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int

    @property
    def num_qkv_rows(self) -> int:
        """Rows of the QKV weight."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim


SHAPES = {
    "Llama-3.2-1B": Shape(16, 2048, 8192, 32, 8, 64, 128256),
    "Llama-3.1-8B": Shape(32, 4096, 14336, 32, 8, 128, 128256),
    "Llama-3.2-3B": Shape(28, 3072, 8192, 24, 8, 128, 128256),
    "Qwen2.5-0.5B": Shape(24, 896, 4864, 14, 2, 64, 151936),
    "Qwen2.5-1.5B": Shape(28, 1536, 8960, 12, 2, 128, 151936),
    "Qwen2.5-7B": Shape(28, 3584, 18944, 28, 4, 128, 152064),
    "Qwen3-0.6B": Shape(28, 1024, 3072, 16, 8, 128, 151936),
    "Qwen3-1.7B": Shape(28, 2048, 6144, 16, 8, 128, 151936),
    "Qwen3-8B": Shape(36, 4096, 12288, 32, 8, 128, 151936),
}


@dataclass(frozen=True)
class Projection:
    """One operation on one weight.

    Attributes:
        name: The operation, as the table of tiles has it.
        size: Columns of the weight.
        num_rows: Rows of the weight.
        heads: H, G, D of a QKV projection.
    """

    name: str
    size: int
    num_rows: int
    heads: tuple[int, int, int] = (0, 0, 0)

    @property
    def num_bytes(self) -> int:
        """Of the weight, in 16 bits."""
        return self.num_rows * self.size * 2

    @property
    def num_calls(self) -> int:
        """On weights of their own, that no call finds its weight in the cache."""
        return min(max(_MIN_MOVED_BYTES // self.num_bytes, 3), 48)


def projections(shape: Shape) -> dict[str, Projection]:
    """The projections of a layer in their order, then the head."""
    hidden, heads = shape.hidden_size, (shape.num_heads, shape.num_kv_heads, shape.head_dim)
    return {
        "qkv": Projection("norm_qkv_rope_store", hidden, shape.num_qkv_rows, heads),
        "o": Projection("linear_residual", shape.num_heads * shape.head_dim, hidden),
        "gate_up": Projection("norm_gate_up_silu", hidden, 2 * shape.intermediate_size),
        "down": Projection("linear_residual", shape.intermediate_size, hidden),
        "head": Projection("norm_head", hidden, shape.vocab_size),
    }


def step(shape: Shape) -> list[Projection]:
    """The projections of a whole step: of all layers, then the head."""
    *layer, head = projections(shape).values()
    return [*layer * shape.num_layers, head]


class Inputs:
    """Random inputs of one projection for `num_tokens` tokens; the weight comes with each call."""

    def __init__(self, projection: Projection, num_tokens: int) -> None:
        self.projection = projection
        self.x = _random(num_tokens, projection.size)
        self.norm = _random(projection.size)
        self.residual = _random(num_tokens, projection.num_rows)
        num_heads, num_kv_heads, head_dim = projection.heads
        if num_heads:
            shape = (num_tokens, KV_BLOCK_SIZE, num_kv_heads, head_dim)
            self.cache = _random(*shape), _random(*shape)
            self.positions = torch.arange(num_tokens, dtype=torch.int32, device="cuda")
            self.slots = self.positions * KV_BLOCK_SIZE
            self.cos_sin = torch.randn(_CONTEXT_LENGTH, head_dim, device="cuda")
        if projection.name == "norm_head":
            self.logits = torch.empty(num_tokens, projection.num_rows, device="cuda")

    def fused(self, weight: torch.Tensor, tile: Tile) -> Callable[[], object]:
        """The kernel by this tile."""
        if self.projection.name == "linear_residual":
            return partial(linear, self.x, weight, self.residual, tile, is_added=True)
        if self.projection.name == "norm_head":
            return partial(norm_linear, self.x, self.norm, EPS, weight, self.logits, tile)
        if self.projection.name == "norm_gate_up_silu":
            return partial(fused_norm_gate_up_silu, self.x, self.norm, EPS, weight, tile)
        places = self.positions, self.cos_sin, *self.cache, self.slots
        return partial(fused_norm_qkv_rope_store, self.x, self.norm, EPS, weight, None, *places, tile)

    def operation(self, weight: torch.Tensor) -> Callable[[], object]:
        """What the model calls: it picks by the table."""
        if self.projection.name == "linear_residual":
            return partial(linear_residual, self.x, weight, self.residual)
        if self.projection.name == "norm_head":
            return partial(norm_head, self.x, self.norm, EPS, weight, self.logits)
        if self.projection.name == "norm_gate_up_silu":
            return partial(norm_gate_up_silu, self.x, self.norm, EPS, weight)
        places = self.positions, self.cos_sin, *self.cache, self.slots
        return partial(norm_qkv_rope_store, self.x, self.norm, EPS, weight, None, None, None, *places)

    def composed(self, weight: torch.Tensor) -> Callable[[], object]:
        """cuBLAS and the kernels around it."""
        return {
            "linear_residual": lambda: self.residual.addmm_(self.x, weight.T),
            "norm_head": lambda: torch.mm(
                rms_norm(self.x, self.norm, EPS), weight.T, out_dtype=torch.float32, out=self.logits
            ),
            "norm_gate_up_silu": lambda: silu_mul(F.linear(rms_norm(self.x, self.norm, EPS), weight)),
            "norm_qkv_rope_store": lambda: self._composed_qkv(weight),
        }[self.projection.name]

    def _composed_qkv(self, weight: torch.Tensor) -> torch.Tensor:
        _, num_kv_heads, head_dim = self.projection.heads
        heads = F.linear(rms_norm(self.x, self.norm, EPS), weight).unflatten(-1, (-1, head_dim))
        q, k, v = heads.tensor_split((-2 * num_kv_heads, -num_kv_heads), dim=1)
        rope_store(q, k, v, self.positions, self.cos_sin, *self.cache, self.slots)
        return q


class WeightPool:
    """Random memory that weights are cut from in turn, so that none is in the cache when its turn comes."""

    def __init__(self, num_bytes: int = 4 << 30) -> None:
        self._values = _random(num_bytes // 2)
        self._next = 0

    def weight(self, projection: Projection) -> torch.Tensor:  # [num_rows, size]
        """The next one."""
        length = projection.num_rows * projection.size
        if self._next + length > len(self._values):
            self._next = 0
        found = self._values[self._next : self._next + length]
        self._next += length
        return found.view(projection.num_rows, projection.size)


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16) * 0.02
