"""Measures tiles of prefill attention, of which `prefill_tiles.tile_shape` has the best.

Once with the context in the pool, and once with fresh prompts, read where the projection leaves them.

    python -m benchmarks.kernels.prefill_sweep

Needs an NVIDIA GPU. Times are of the attention of one layer; FLOPs count the causal half.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from triton.runtime.errors import OutOfResources

from benchmarks.kernels.timing import median_us
from tandem_bench.record import write_result
from tandem_kernels.prefill_attention import tiled_prefill_attention
from tandem_kernels.prefill_tiles import TileShape

BLOCK_SIZE = 16
# Query heads, KV heads, head size.
HEADS = {"Llama-3.2-1B": (32, 8, 64), "Llama-3.1-8B": (32, 8, 128)}
# Prompts of a step and their lengths.
PROMPTS = ((1, 3968), (8, 1024), (64, 128))
# A warp takes 16 rows: of fewer the tensor cores make nothing, more of them spill.
TILES = [
    TileShape(16 * num_warps, block_n, num_warps, num_stages, registers)
    for num_warps, block_n, num_stages, registers in itertools.product(
        (4, 8), (32, 64, 128), (2, 3), (None, 128)
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
    cases = itertools.product(HEADS.items(), PROMPTS, (False, True))
    for (model, heads), (count, length), is_fresh in cases:
        *arguments, fresh_kv = inputs(*heads, count, length)
        arguments.append(fresh_kv if is_fresh else None)
        flops = 2 * count * length**2 * heads[0] * heads[2]
        for tile in TILES:
            try:
                us = median_us([lambda: tiled_prefill_attention(*arguments, tile)], replays=10)  # noqa: B023
            except (RuntimeError, OutOfResources, torch.AcceleratorError) as error:  # memory, registers
                print(f"{tile}: {type(error).__name__}", flush=True)
                continue
            work = {"model": model, "prompts": f"{count}x{length}", "is_fresh": is_fresh, "tile": str(tile)}
            yield work | {"us": round(us, 1), "tflop_per_s": round(flops / us / 1e6)}


def inputs(num_heads: int, num_kv_heads: int, head_dim: int, count: int, length: int) -> tuple[Any, ...]:
    """Random prompts, also in a pool whose blocks are in no order: the kernel's arguments before its tile."""
    per_prompt = -(-length // BLOCK_SIZE)
    num_blocks = count * per_prompt
    qkv = torch.randn(
        count * length, num_heads + 2 * num_kv_heads, head_dim, device="cuda", dtype=torch.bfloat16
    )
    q, kv = qkv.tensor_split((num_heads,), dim=1)
    tables = torch.randperm(num_blocks, device="cuda").view(count, -1)
    places = torch.arange(length, device="cuda")
    slots = (tables[:, places // BLOCK_SIZE] * BLOCK_SIZE + places % BLOCK_SIZE).flatten()
    caches = qkv.new_zeros(2, num_blocks * BLOCK_SIZE, num_kv_heads, head_dim)
    caches[:, slots] = torch.stack(kv.chunk(2, 1))
    k_cache, v_cache = caches.view(2, num_blocks, BLOCK_SIZE, num_kv_heads, head_dim)
    rows = torch.arange(count, device="cuda").int()
    starts = (torch.arange(count + 1, device="cuda") * length).int()
    lens = torch.full((count,), length, device="cuda").int()
    return q, k_cache, v_cache, tables.int(), rows, starts, lens, head_dim**-0.5, kv


if __name__ == "__main__":
    main()
