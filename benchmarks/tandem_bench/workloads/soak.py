"""Many short random requests with random cancels through both services: nothing leaks, nothing drifts."""

import asyncio
import time
from collections.abc import Iterator
from statistics import mean

import grpc

import tandem
from tandem.engine.v1 import engine_pb2, engine_pb2_grpc
from tandem_bench.bench import Bench, say
from tandem_bench.gpu_memory import gpu_memory_mib
from tandem_bench.measurement import Failure, Measurement, Outcome, rounded
from tandem_bench.process_table import service_rss_bytes
from tandem_bench.random_use import Counts, probe, use_at_random
from tandem_bench.services import Addresses, running_services

NUM_SAMPLES = 100
# Somewhat less than the running requests need, so that preemption and eviction have their part in it.
NUM_BLOCKS = 768
# Between the means of the first and the last tenth. Device memory is taken at the start, so it must stand
# still; the processes' allocators settle slowly.
MAX_GROWTH_MIB = {"gpu": 16.0, "core": 96.0, "engine_server": 96.0, "tokenizer": 96.0}
SETTLE_S = 20.0

Sample = dict[str, float]


def soak(bench: Bench, model: str = "") -> Iterator[Outcome]:
    """Requests per second, and a failure for each thing that leaked or changed.

    Args:
        bench: What is run on what.
        model: A directory or `demo`; empty takes the checkpoint of the shape.
    """
    total = bench.settings.num_requests
    name = f"soak-{model}" if model else "soak"
    counts, samples = Counts(), list[Sample]()
    with running_services(
        bench, model=model, num_workers=bench.settings.workers[0], num_blocks=NUM_BLOCKS
    ) as addresses:
        start_s = time.perf_counter()
        faults = asyncio.run(_use(addresses, total, counts, samples))
        wall_s = time.perf_counter() - start_s
        faults += _unfreed(addresses)
    growth = growth_mib(samples)
    faults += [
        f"{part} grew by {mib:.0f} MiB between the first and the last tenth"
        for part, mib in growth.items()
        if mib > MAX_GROWTH_MIB[part]
    ]
    details = {
        "num_requests": total,
        "num_cancelled": counts.num_cancelled,
        "num_tokens": counts.num_tokens,
        "growth_mib": {part: rounded(mib) for part, mib in growth.items()},
        "last_mib": {part: rounded(mib) for part, mib in samples[-1].items()},
        "faults": faults,
    }
    yield Measurement(name, "requests/s", [total / wall_s], is_rate=True, details=details)
    yield from (Failure(name, fault) for fault in faults)


async def _use(addresses: Addresses, total: int, counts: Counts, samples: list[Sample]) -> list[str]:
    """Runs the requests between two rounds of probes; returns what is wrong with them."""
    every = max(1, total // NUM_SAMPLES)

    def on_done() -> None:
        if counts.num_done % every == 0:
            samples.append(_sample())
        if counts.num_done % (10 * every) == 0:
            say(f"soak: {counts.num_done} of {total} requests, {counts.num_cancelled} cancelled")

    async with tandem.AsyncClient(addresses.tokenizer) as client:
        (served,) = await client.models()
        before = await probe(client, served.vocab_size)
        await use_at_random(client, served.vocab_size, total, counts, on_done)
        after = await probe(client, served.vocab_size)
    return [] if after == before else ["the same seeds give other tokens at the end than at the start"]


def _sample() -> Sample:
    """Memory in use now, in MiB: of each kind of process, and of the GPU if there is one."""
    found = {name: num_bytes / (1 << 20) for name, num_bytes in service_rss_bytes().items()}
    gpu = gpu_memory_mib()
    return found if gpu is None else found | {"gpu": gpu}


def growth_mib(samples: list[Sample]) -> Sample:
    """How much more is in use over the last tenth of the samples than over the first."""
    tenth = max(1, len(samples) // 10)
    return {
        name: mean(each[name] for each in samples[-tenth:]) - mean(each[name] for each in samples[:tenth])
        for name in samples[0]
    }


def _unfreed(addresses: Addresses) -> list[str]:
    """What the engine still holds when nobody wants anything of it; cancels may take a moment to arrive."""
    end_s = time.monotonic() + SETTLE_S
    with grpc.insecure_channel(addresses.engine) as channel:
        stub = engine_pb2_grpc.EngineStub(channel)
        while True:
            load = stub.GetLoad(engine_pb2.GetLoadRequest()).load
            if load.num_running + load.num_waiting == 0 and load.num_free_blocks == load.num_blocks:
                return []
            if time.monotonic() > end_s:
                break
            time.sleep(0.1)
    held = load.num_blocks - load.num_free_blocks
    return [f"the idle engine holds {held} blocks, {load.num_running} running, {load.num_waiting} waiting"]
