"""The kernels that only move memory: time, percent of the bandwidth ceiling, and torch's own time.

    python -m benchmarks.kernels.elementwise

Needs an NVIDIA GPU. Each call works on memory of its own, up to a hundred calls: what a step of few tokens
moves fits in the L2 cache whatever one does, there as in a decode step, and its time is that of a launch.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.kernels.timing import copy_bandwidth, median_us
from tandem_bench.record import write_result
from tandem_kernels import add_rms_norm, embedding, reference, rms_norm, rope_store, silu_mul, softmax

TOKENS = (1, 64, 2048)
EPS = 1e-5
KV_BLOCK_SIZE = 16
# Four times the L2 cache of an H200.
MIN_MOVED_BYTES = 240 << 20


@dataclass(frozen=True)
class Shape:
    """What of a model's shape these kernels see."""

    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int = 128256


SHAPES = {
    "Llama-3.2-1B": Shape(2048, 8192, 32, 8, 64),
    "Llama-3.1-8B": Shape(4096, 14336, 32, 8, 128),
}


@dataclass(frozen=True)
class Case:
    """One operation on one shape.

    Attributes:
        operation: Its name.
        num_bytes: Read and written by a call.
        ours: The operation.
        torchs: What one would call in torch.
        arguments: Makes the arguments of both, on fresh memory.
    """

    operation: str
    num_bytes: int
    ours: Callable[..., object]
    torchs: Callable[..., object]
    arguments: Callable[[], tuple[Any, ...]]


def main() -> None:
    """Measures and writes results/kernels_elementwise.json."""
    ceiling = copy_bandwidth()
    print(f"copy: {ceiling / 1e12:.2f} TB/s")
    rows = [
        {"model": model, "tokens": tokens} | measure(case, ceiling)
        for model, shape in SHAPES.items()
        for tokens in TOKENS
        for case in cases(shape, tokens)
    ]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    print(write_result("kernels_elementwise", {"copy_tb_per_s": round(ceiling / 1e12, 3), "rows": rows}))


def measure(case: Case, ceiling: float) -> dict[str, object]:
    """A row of the table; `ceiling` in bytes per second."""
    num_calls = min(max(MIN_MOVED_BYTES // case.num_bytes, 4), 100)
    arguments = [case.arguments() for _ in range(num_calls)]
    ours_us = median_us([partial(case.ours, *each) for each in arguments])
    torchs_us = median_us([partial(case.torchs, *each) for each in arguments])
    return {
        "operation": case.operation,
        "bytes": case.num_bytes,
        "us": round(ours_us, 2),
        "percent_of_copy": round(case.num_bytes / ours_us * 1e6 / ceiling * 100, 1),
        "torch_us": round(torchs_us, 2),
    }


def cases(shape: Shape, tokens: int) -> Iterator[Case]:
    """All operations on `tokens` tokens."""
    row, weight = tokens * shape.hidden_size * 2, shape.hidden_size * 2

    def norm() -> tuple[Any, ...]:
        return _random(tokens, shape.hidden_size), _random(shape.hidden_size), EPS

    yield Case("rms_norm", 2 * row + weight, rms_norm, _torch_rms_norm, norm)

    def add_norm() -> tuple[Any, ...]:
        return (_random(tokens, shape.hidden_size), *norm())

    yield Case("add_rms_norm", 4 * row + weight, add_rms_norm, _torch_add_rms_norm, add_norm)
    yield _rope_store_case(shape, tokens)

    def gate_up() -> tuple[Any, ...]:
        return (_random(tokens, 2 * shape.intermediate_size),)

    yield Case("silu_mul", 3 * tokens * shape.intermediate_size * 2, silu_mul, reference.silu_mul, gate_up)

    def logits() -> tuple[Any, ...]:
        return (torch.randn(tokens, shape.vocab_size, device="cuda"),)

    yield Case("softmax", 2 * tokens * shape.vocab_size * 4, softmax, reference.softmax, logits)
    table = _random(shape.vocab_size, shape.hidden_size)

    def lookup() -> tuple[Any, ...]:
        return torch.randint(shape.vocab_size, (tokens,), device="cuda"), table

    yield Case("embedding", 2 * row + 8 * tokens, embedding, F.embedding, lookup)


def _rope_store_case(shape: Shape, tokens: int) -> Case:
    sizes = [heads * shape.head_dim for heads in (shape.num_heads, shape.num_kv_heads, shape.num_kv_heads)]
    num_blocks = -(-tokens // KV_BLOCK_SIZE)
    cos_sin = torch.randn(8192, shape.head_dim, device="cuda")

    def arguments() -> tuple[Any, ...]:
        qkv = _random(tokens, sum(sizes)).split(sizes, dim=-1)
        cache = _random(2, num_blocks, KV_BLOCK_SIZE, shape.num_kv_heads, shape.head_dim)
        return (
            *(part.unflatten(-1, (-1, shape.head_dim)) for part in qkv),
            torch.arange(tokens, device="cuda"),
            cos_sin,
            *cache,
            torch.randperm(num_blocks * KV_BLOCK_SIZE, device="cuda")[:tokens],
        )

    # Read and written: q twice, k three times, v twice; the angles, position and slot of each token.
    per_token = 2 * (2 * sizes[0] + 3 * sizes[1] + 2 * sizes[2]) + 4 * shape.head_dim + 16
    return Case("rope_store", tokens * per_token, rope_store, reference.rope_store, arguments)


def _torch_rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return F.rms_norm(x, weight.shape, weight, eps)


def _torch_add_rms_norm(
    x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    return _torch_rms_norm(residual.add_(x), weight, eps)


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


if __name__ == "__main__":
    main()
