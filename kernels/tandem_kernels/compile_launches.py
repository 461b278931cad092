"""Kernels compiled many at once. Triton alone compiles each when it is first launched, one after another."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from triton import AsyncCompileMode
from triton.runtime.jit import JITFunction


def compile_launches(work: Callable[[], None]) -> int:
    """Runs `work`, but compiles all that it launches instead, and loads it on the current GPU.

    To be called in a thread of its own, as should a kernel not compile, that thread can compile nothing more.
    Other threads launch as ever.

    Returns:
        How many kernels there are, those included that had been compiled before.
    """
    # The compiler and what it calls mostly run without the interpreter's lock.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        with AsyncCompileMode(pool) as mode, _launches_only_compile(), torch.inference_mode():
            work()
        return len(list(pool.map(_load, mode.future_kernels.values())))


@contextlib.contextmanager
def _launches_only_compile() -> Iterator[None]:
    """Inside the context launches of this thread do no more than compile."""
    run, thread = JITFunction.run, threading.get_ident()

    def run_or_compile(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        only_compiles = warmup or threading.get_ident() == thread
        return run(self, *args, grid=grid, warmup=only_compiles, **options)

    JITFunction.run = run_or_compile
    try:
        yield
    finally:
        JITFunction.run = run


def _load(kernel: Any) -> None:
    """Brings a kernel to the device; Triton 3.6 compiles a launcher for it, in C."""
    kernel.result().run  # noqa: B018  (a property that loads)
