"""How long a piece of work takes on the device that does it."""

import time
from collections.abc import Callable

import torch


def seconds(call: Callable[[], object], *, is_gpu: bool) -> float:
    """The time of what `call` does; on a GPU that of the work which it starts on the current stream."""
    return _gpu_s(call) if is_gpu else _cpu_s(call)


def _gpu_s(call: Callable[[], object]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    call()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1e3


def _cpu_s(call: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    call()
    return time.perf_counter() - start_s
