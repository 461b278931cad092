"""From the start of the engine's process to its first token."""

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc

from tandem.engine.v1 import engine_pb2 as pb, engine_pb2_grpc
from tandem_bench.bench import Bench, say
from tandem_bench.checkpoint import num_weight_bytes
from tandem_bench.measurement import Measurement, rounded
from tandem_service.flags import to_arguments

TIMEOUT_S = 300.0
PAUSE_S = 0.02
# What the engine logs when it has read the weights.
_LOADED = re.compile(r"GB of weights in [\d.]+ s, ([\d.]+) GB/s")


def start(bench: Bench) -> Iterator[Measurement]:
    """Seconds with an empty Triton cache, with a filled one, and with the weights not in memory either."""
    bench.close_engine()
    repetitions = bench.settings.repetitions
    with tempfile.TemporaryDirectory(prefix="tandem-triton-") as caches:
        filled = Path(caches) / "0"
        empty = [filled, *(Path(caches) / str(number) for number in range(1, repetitions))]
        yield _measure(bench, "start-empty-cache", empty, is_evicted=False)
        yield _measure(bench, "start-warm-cache", [filled] * repetitions, is_evicted=False)
        yield _measure(bench, "start-cold-files", [filled] * repetitions, is_evicted=True)


def _measure(bench: Bench, name: str, caches: list[Path], *, is_evicted: bool) -> Measurement:
    runs_s, loaded = [], []
    for cache in caches:
        if is_evicted:
            evict(bench.checkpoint)
        seconds, gb_per_s = _start_once(bench, cache)
        say(f"{name}: {seconds:.2f} s")
        runs_s.append(seconds)
        loaded.append(gb_per_s)
    num_bytes = num_weight_bytes(bench.checkpoint)
    details = {
        "weight_gb": rounded(num_bytes / 1e9),
        "whole_start_gb_per_s": [rounded(num_bytes / 1e9 / seconds) for seconds in runs_s],
        "loading_gb_per_s": loaded,
    }
    return Measurement(name, "s", runs_s, details=details)


def _start_once(bench: Bench, cache: Path) -> tuple[float, float | None]:
    """Seconds to the first token, and the rate of loading in GB/s if the engine said it."""
    with tempfile.TemporaryDirectory(prefix="tandem-start-") as directory:
        log = Path(directory) / "log"
        address = f"unix:{directory}/engine.sock"
        config = replace(bench.settings.engine_config(bench.checkpoint), listen=address)
        command = [sys.executable, "-m", "engine_service", *to_arguments(config)]
        environment = os.environ | {"TRITON_CACHE_DIR": str(cache)}
        start_s = time.perf_counter()
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment)
        try:
            _wait_for_token(process, address, start_s, log)
            seconds = time.perf_counter() - start_s
        finally:
            process.terminate()
            process.wait(60)
        return seconds, _loading_rate(log.read_text(errors="replace"))


def _wait_for_token(process: subprocess.Popen[bytes], address: str, start_s: float, log: Path) -> None:
    spec = pb.SequenceSpec(token_ids=range(10, 20), max_tokens=1, ignore_eos=True)
    while time.perf_counter() - start_s < TIMEOUT_S:
        if process.poll() is not None:
            raise RuntimeError(f"the engine ended: {log.read_text(errors='replace')[-500:]}")
        # A new channel each time: an old one would wait out its backoff before it connects again.
        with contextlib.suppress(grpc.RpcError), grpc.insecure_channel(address) as channel:
            call = engine_pb2_grpc.EngineStub(channel).Generate(
                pb.GenerateRequest(spec=spec), timeout=TIMEOUT_S
            )
            for response in call:
                if response.tokens:
                    return
        time.sleep(PAUSE_S)
    raise RuntimeError(f"no token after {TIMEOUT_S:g} s: {log.read_text(errors='replace')[-500:]}")


def _loading_rate(log: str) -> float | None:
    found = _LOADED.findall(log)
    return float(found[-1]) if found else None


def evict(directory: Path) -> None:
    """Asks the system to forget what it holds of a checkpoint's files in memory."""
    for path in directory.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
