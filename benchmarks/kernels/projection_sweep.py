"""Measures tiles of the projection kernels and writes the table that the launchers use.

    python -m benchmarks.kernels.projection_sweep MODEL...

Needs an NVIDIA GPU. Entries of shapes that were not measured stay as they are. A compilation takes much
longer than a measurement: other processes compile first, into Triton's cache, and the GPU's times are taken
by one process afterwards.
"""

import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple
from pathlib import Path

import torch

from benchmarks.kernels.projection_cases import SHAPES, Inputs, Projection, WeightPool, projections
from benchmarks.kernels.timing import median_us
from tandem_kernels import projection_table
from tandem_kernels.projection_tiles import BATCH_BUCKETS, Tile

MAX_SHARED_BYTES = 227 << 10
MIN_MOVED_BYTES = 240 << 20
_REPLAYS = 5
# What a kernel may take more than cuBLAS here: in a step it also begins before its predecessor ends.
_TOLERANCE = 1.03
MIN_PROGRAMS = 264
# Rows, block_k, stages: from 16 to 100 kB in flight a program.
TENSOR_CORE_TILES = (
    *itertools.product((16,), (256,), (4, 6)),
    *itertools.product((16, 32), (512,), (3,)),
    *itertools.product((32,), (128, 256), (4, 6)),
    *itertools.product((64,), (64, 128), (4, 6, 8)),
    *itertools.product((64,), (256,), (3, 4)),
    *itertools.product((128,), (64, 128), (3, 4)),
    (128, 64, 6),
)


def candidates(projection: Projection, bucket: int) -> Iterator[Tile]:
    """Tiles worth a measurement."""
    return _cuda_core_tiles(projection, bucket) if bucket <= 2 else _tensor_core_tiles(projection, bucket)


def _cuda_core_tiles(projection: Projection, bucket: int) -> Iterator[Tile]:
    for rows, num_warps, per_thread in itertools.product((1, 2, 4, 8), (1, 2, 4, 8), (8, 16)):
        block_k = 32 * num_warps * per_thread
        registers = rows * per_thread * (bucket + 1)
        if registers > 168 or block_k >= 2 * projection.size:
            continue
        if rows == 1 or (rows == 8 and bucket > 1):
            continue
        if projection.num_rows // rows >= MIN_PROGRAMS:
            yield Tile(bucket, rows, block_k, num_warps)


def _tensor_core_tiles(projection: Projection, bucket: int) -> Iterator[Tile]:
    splits = (1, 2, 4) if projection.name == "linear_residual" else (1,)
    for (rows, block_k, stages), split in itertools.product(TENSOR_CORE_TILES, splits):
        programs = projection.num_rows // rows * split
        shared = (rows + bucket) * block_k * 2 * stages
        if not MIN_PROGRAMS // 3 <= programs <= (600 if split > 1 else 1 << 20) or shared > MAX_SHARED_BYTES:
            continue
        if (projection.heads[2] and rows > projection.heads[2]) or block_k * split * 2 > projection.size:
            continue
        # Larger batches need the shared memory for their tokens, and more arithmetic of a program.
        if (bucket > 16 and (rows == 16 or block_k > 128)) or (bucket == 64 and (rows == 32 or stages > 4)):
            continue
        if bucket == 64 and projection.name in ("linear_residual", "norm_qkv_rope_store"):
            continue
        yield Tile(bucket, rows, block_k, 2 if rows == 16 else 4, stages, split)


def _compile(job: tuple[Projection, list[Tile]]) -> None:
    projection, tiles = job
    inputs = {bucket: Inputs(projection, bucket) for bucket in {tile.block_m for tile in tiles}}
    weight = torch.empty(projection.num_rows, projection.size, dtype=torch.bfloat16, device="cuda")
    for tile in tiles:
        try:
            inputs[tile.block_m].fused(weight, tile)()
        except Exception as error:
            print("fails:", projection, tile, str(error)[:200], flush=True)


def compile_all(tiles: dict[Projection, list[Tile]], pool: ProcessPoolExecutor) -> None:
    """Fills Triton's cache."""
    jobs = [(projection, [tile]) for projection, found in tiles.items() for tile in found]
    chunks = [
        (projection, [tile for _, part in group for tile in part])
        for projection, jobs_of in itertools.groupby(jobs, key=lambda job: job[0])
        for group in _chunks(list(jobs_of), 16)
    ]
    list(pool.map(_compile, chunks))


def _chunks(items: list, size: int) -> Iterator[list]:  # type: ignore[type-arg]
    for start in range(0, len(items), size):
        yield items[start : start + size]


class Sweep:
    """Times of one projection."""

    def __init__(self, projection: Projection, weights: WeightPool) -> None:
        self.projection = projection
        num_bytes = projection.num_rows * projection.size * 2
        num_calls = min(max(MIN_MOVED_BYTES // num_bytes, 3), 24)
        self.weights = [weights.weight(projection) for _ in range(num_calls)]

    def fused_us(self, num_tokens: int, tile: Tile) -> float:
        """A call's time by this tile; infinite where it does not fit the GPU."""
        inputs = Inputs(self.projection, num_tokens)
        try:
            return median_us([inputs.fused(weight, tile) for weight in self.weights], _REPLAYS)
        except Exception as error:
            print("fails:", self.projection, tile, str(error)[:100], flush=True)
            return float("inf")

    def composed_us(self, num_tokens: int) -> float:
        """A call's time by cuBLAS."""
        inputs = Inputs(self.projection, num_tokens)
        return median_us([inputs.composed(weight) for weight in self.weights], _REPLAYS)


def main() -> None:
    """Measures the models that the command line names; writes the table and all times."""
    started = time.monotonic()
    found = {each: None for model in sys.argv[1:] for each in projections(SHAPES[model]).values()}
    tiles = {each: [tile for bucket in BATCH_BUCKETS for tile in candidates(each, bucket)] for each in found}
    print(sum(map(len, tiles.values())), "tiles", flush=True)
    workers = max((os.cpu_count() or 2) - 1, 1)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        compile_all(tiles, pool)
        print(f"compiled after {time.monotonic() - started:.0f} s", flush=True)
        weights = WeightPool()
        times = {each: measure(Sweep(each, weights), tiles[each]) for each in found}
        print(f"measured after {time.monotonic() - started:.0f} s", flush=True)
    for each in found:
        sweep = Sweep(each, weights)
        projection_table.MEASURED[each.name, each.size, each.num_rows] = best(sweep, times[each])
        write_table()
    print(f"finished after {time.monotonic() - started:.0f} s", flush=True)
    out = Path(os.environ.get("OUT", "."))
    rows = [(astuple(each), astuple(tile), us) for each in found for (_, tile), us in times[each].items()]
    (out / "projection_sweep.json").write_text(json.dumps(rows))


Times = dict[tuple[int, Tile], float]


def measure(sweep: Sweep, tiles: list[Tile]) -> Times:
    """All tiles at the batch of their bucket."""
    return {(tile.block_m, tile): sweep.fused_us(tile.block_m, tile) for tile in tiles}


def best(sweep: Sweep, times: Times) -> dict[int, projection_table.Entry | None]:
    """The entries of one shape. A bucket of few tokens may do best with a tile for more."""
    entries: dict[int, projection_table.Entry | None] = {}
    for bucket in BATCH_BUCKETS:
        ranked = sorted((us, i, tile) for i, ((m, tile), us) in enumerate(times.items()) if m == bucket)
        wider = sorted((us, i, tile) for i, ((m, tile), us) in enumerate(times.items()) if m == 16)
        options = [tile for _, _, tile in ranked[:2]] + ([wider[0][2]] if bucket < 16 and wider else [])
        timed = sorted((sweep.fused_us(bucket, tile), i, tile) for i, tile in enumerate(options))
        composed_us = sweep.composed_us(bucket)
        us, _, tile = timed[0] if timed else (float("inf"), 0, None)
        entries[bucket] = None if tile is None or us > composed_us * _TOLERANCE else astuple(tile)
        tb_per_s = sweep.projection.num_rows * sweep.projection.size * 2 / us / 1e6
        print(
            f"{sweep.projection.name} {sweep.projection.size}->{sweep.projection.num_rows} x{bucket}: "
            f"{us:.2f} us ({tb_per_s:.2f} TB/s), cuBLAS {composed_us:.2f} us, "
            f"{None if tile is None else astuple(tile)}",
            flush=True,
        )
    return entries


def write_table() -> None:
    """Rewrites tandem_kernels/projection_table.py from what is in memory now, and leaves a copy in $OUT."""
    path = Path(projection_table.__file__)
    head = path.read_text().split("\n# Measured on", 1)[0].split("MEASURED:", 1)[0].rstrip()
    lines = [
        head,
        f"# Measured on {torch.cuda.get_device_name()}, in bfloat16.",
        "MEASURED: dict[tuple[str, int, int], dict[int, Entry | None]] = {",
    ]
    for key, entries in projection_table.MEASURED.items():
        lines.append(f'    {json.dumps(key[0])[:-1]}", {key[1]}, {key[2]}): {{'.replace('    "', '    ("', 1))
        lines += [f"        {bucket}: {entry}," for bucket, entry in entries.items()]
        lines.append("    },")
    text = "\n".join([*lines, "}", ""])
    path.write_text(text)
    (Path(os.environ.get("OUT", ".")) / "projection_table.py").write_text(text)


if __name__ == "__main__":
    main()
