"""Measures tiles of the projection kernels and writes the table that the launchers use.

    python -m benchmarks.kernels.projection_sweep [--buckets 16,64] MODEL...

Needs an NVIDIA GPU. Entries of shapes and buckets that were not measured stay as they are. Each tile is timed
alone, then the best of them and cuBLAS, in turn, in the chain of all projections of a step, where kernels
overlap: the step's time decides. A compilation takes much longer than a measurement: other processes compile
first, into Triton's cache, and the GPU's times are taken by one process afterwards.
"""

import argparse
import itertools
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple
from functools import partial
from pathlib import Path

import torch

from benchmarks.kernels.projection_cases import (
    SHAPES,
    Inputs,
    Projection,
    Shape,
    WeightPool,
    projections,
    step,
)
from benchmarks.kernels.timing import in_turn_us, median_us
from tandem_kernels import projection_table
from tandem_kernels.projection_tiles import BATCH_BUCKETS, Tile, default_tile

MAX_SHARED_BYTES = 227 << 10
_REPLAYS = 5
# How many of the fastest alone are tried in a step, and what share of its time another entry must save.
_FINALISTS = 4
_LEAST_GAIN = 0.005
MIN_PROGRAMS = 264
# Rows, block_k, warps, stages: from 16 to 190 kB in flight a program.
TENSOR_CORE_TILES = (
    *itertools.product((16,), (256, 512), (2,), (3, 4, 6)),
    *itertools.product((32,), (128, 256), (4,), (4, 6)),
    *itertools.product((64,), (64, 128), (4,), (3, 4, 5, 6, 8)),
    *itertools.product((64,), (256,), (4,), (3, 4)),
    *itertools.product((128,), (64, 128), (4, 8), (3, 4, 6)),
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
    for (rows, block_k, num_warps, stages), split in itertools.product(TENSOR_CORE_TILES, splits):
        programs = projection.num_rows // rows * split
        shared = (rows + bucket) * block_k * 2 * stages
        if not MIN_PROGRAMS // 3 <= programs <= (300 if split > 1 else 1 << 20) or shared > MAX_SHARED_BYTES:
            continue
        if (projection.heads[2] and rows > projection.heads[2]) or block_k * split * 2 > projection.size:
            continue
        # More programs than there is room for in several rounds, or tiles that read all tokens too often.
        if programs > 2048 or rows * 2 < bucket:
            continue
        yield Tile(bucket, rows, block_k, num_warps, stages, split)


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


def main() -> None:
    """Measures the models that the command line names; writes the table and all times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", choices=sorted(SHAPES), metavar="MODEL")
    parser.add_argument("--buckets", default=",".join(map(str, BATCH_BUCKETS)))
    parsed = parser.parse_args()
    buckets = [int(bucket) for bucket in parsed.buckets.split(",")]
    shapes = [SHAPES[model] for model in parsed.models]
    started = time.monotonic()
    found = {each: None for shape in shapes for each in projections(shape).values()}
    tiles = {each: [tile for bucket in buckets for tile in candidates(each, bucket)] for each in found}
    print(sum(map(len, tiles.values())), "tiles", flush=True)
    workers = max((os.cpu_count() or 2) - 1, 1)
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        compile_all(tiles, pool)
    print(f"compiled after {time.monotonic() - started:.0f} s", flush=True)
    weights = WeightPool()
    times = {each: times_alone(each, tiles[each], weights) for each in found}
    print(f"measured alone after {time.monotonic() - started:.0f} s", flush=True)
    for shape, bucket in itertools.product(shapes, buckets):
        settle(shape, bucket, times, weights)
        write_table()
    print(f"finished after {time.monotonic() - started:.0f} s", flush=True)
    out = Path(os.environ.get("OUT", "."))
    rows = [(astuple(each), astuple(tile), us) for each in found for tile, us in times[each].items()]
    (out / "projection_sweep.json").write_text(json.dumps(rows))


Times = dict[Tile, float]


def times_alone(projection: Projection, tiles: list[Tile], weights: WeightPool) -> Times:
    """Microseconds of all tiles at the batch of their bucket."""
    own = [weights.weight(projection) for _ in range(projection.num_calls)]
    return {tile: _alone_us(projection, tile, own) for tile in tiles}


def _alone_us(projection: Projection, tile: Tile, weights: list[torch.Tensor]) -> float:
    inputs = Inputs(projection, tile.block_m)
    try:
        return median_us([inputs.fused(weight, tile) for weight in weights], _REPLAYS)
    except Exception as error:
        print("fails:", projection, tile, str(error)[:100], flush=True)
        return math.inf


def settle(shape: Shape, bucket: int, times: dict[Projection, Times], weights: WeightPool) -> None:
    """Picks the entries of one bucket, one projection after another, by the time of the whole step."""
    for each in projections(shape).values():
        entries = _entries(each)
        options = list(dict.fromkeys([entries[bucket], *finalists(bucket, times[each]), None]))
        us = in_turn_us([_step_calls(shape, bucket, weights, each, option) for option in options])
        fastest = min(range(len(options)), key=us.__getitem__)
        entries[bucket] = options[fastest if us[fastest] < us[0] * (1 - _LEAST_GAIN) else 0]
        found = ", ".join(f"{option} {us_of:.0f}" for option, us_of in zip(options, us, strict=True))
        print(f"{each.name} {each.size}->{each.num_rows} x{bucket}: {entries[bucket]} of {found}", flush=True)


def finalists(bucket: int, times: Times) -> list[projection_table.Entry]:
    """The fastest alone. A bucket of few tokens may do best with a tile for more."""
    ranked = sorted((tile for tile in times if math.isfinite(times[tile])), key=times.__getitem__)
    own = [tile for tile in ranked if tile.block_m == bucket][:_FINALISTS]
    wider = [tile for tile in ranked if tile.block_m == 16][:1] if bucket < 16 else []
    return [astuple(tile) for tile in own + wider]


def _entries(projection: Projection) -> dict[int, projection_table.Entry | None]:
    """Those of the table, which a shape that is new there enters with its default tiles."""
    name, size, num_rows = projection.name, projection.size, projection.num_rows
    tiles = {bucket: default_tile(name, bucket, num_rows, size) for bucket in BATCH_BUCKETS}
    defaults = {bucket: None if tile is None else astuple(tile) for bucket, tile in tiles.items()}
    return projection_table.MEASURED.setdefault((name, size, num_rows), defaults)


def _step_calls(
    shape: Shape,
    bucket: int,
    weights: WeightPool,
    tried: Projection,
    option: projection_table.Entry | None,
) -> list[Callable[[], object]]:
    """The chain of a step by the table's entries but for the one that is tried; None stands for cuBLAS."""
    calls = {}
    for each in projections(shape).values():
        entry = option if each == tried else _entries(each)[bucket]
        inputs = Inputs(each, bucket)
        calls[each] = inputs.composed if entry is None else partial(inputs.fused, tile=Tile(*entry))
    return [calls[each](weights.weight(each)) for each in step(shape)]


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
