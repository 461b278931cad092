"""Measures tiles of prefill attention, of which `prefill_attention.tile_shape` has the best.

    python -m benchmarks.kernels.prefill_sweep

Needs an NVIDIA GPU. Times are of the attention of one layer; FLOPs count the causal half.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.kernels.timing import median_us
from tandem_bench.record import write_result
from tandem_kernels.prefill_attention import TileShape, tiled_prefill_attention

BLOCK_SIZE = 16
# Query heads, KV heads, head size.
HEADS = {"Llama-3.2-1B": (32, 8, 64), "Llama-3.1-8B": (32, 8, 128)}
# Prompts of a step and their lengths.
PROMPTS = ((1, 3968), (8, 1024), (64, 128))
TILES = [
    TileShape(block_m, block_n, num_warps, num_stages, registers)
    for block_m, block_n, num_warps, num_stages, registers in itertools.product(
        (64, 128), (32, 64, 128), (4, 8), (3, 5), (None, 128)
    )
]


def main() -> None:
    """Measures and writes results/prefill_sweep.json."""
    rows = []
    for row in measure():
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        rows.append(row)
    print(write_result("prefill_sweep", {"gpu": torch.cuda.get_device_name(), "rows": rows}))


def measure() -> Iterator[dict[str, object]]:
    """A row for each tile that the GPU can run, for each model and batch of prompts."""
    for (model, heads), (count, length) in itertools.product(HEADS.items(), PROMPTS):
        arguments = inputs(*heads, count, length)
        flops = 2 * count * length**2 * heads[0] * heads[2]
        for tile in TILES:
            try:
                us = median_us([lambda: tiled_prefill_attention(*arguments, tile)], replays=10)  # noqa: B023
            except (
                RuntimeError,
                torch.AcceleratorError,
            ) as error:  # too much shared memory, too few registers
                print(f"{tile}: {type(error).__name__}", flush=True)
                continue
            work = {"model": model, "prompts": f"{count}x{length}", "tile": str(tile)}
            yield work | {"us": round(us, 1), "tflop_per_s": round(flops / us / 1e6)}


def inputs(num_heads: int, num_kv_heads: int, head_dim: int, count: int, length: int) -> tuple[Any, ...]:
    """Random prompts in a pool whose blocks are in no order: the kernel's arguments before its tile."""
    num_blocks = count * -(-length // BLOCK_SIZE)
    shape = (num_blocks, BLOCK_SIZE, num_kv_heads, head_dim)
    k_cache, v_cache = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    q = torch.randn(count * length, num_heads, head_dim, device="cuda", dtype=torch.bfloat16)
    tables = torch.randperm(num_blocks, device="cuda").int().view(count, -1)
    rows = torch.arange(count, device="cuda").int()
    starts = (torch.arange(count + 1, device="cuda") * length).int()
    lens = torch.full((count,), length, device="cuda").int()
    return q, k_cache, v_cache, tables, rows, starts, lens, head_dim**-0.5


if __name__ == "__main__":
    main()
