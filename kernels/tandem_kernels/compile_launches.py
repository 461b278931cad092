"""Kernels compiled many at once. Triton alone compiles each when it is first launched, one after another."""

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from triton import AsyncCompileMode
from triton.runtime.jit import JITFunction


def compile_launches(work: Callable[[], None]) -> int:
    """Compiles all that `work` launches on tensors of the meta device, and loads it on the current GPU.

    Such tensors have shapes, types and places but no memory, so launches of them do nothing else. To be
    called in a thread of its own: should a kernel not compile, that thread can compile nothing more.

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
    """Inside the context launches of meta tensors do no more than compile; others are as ever."""
    run = JITFunction.run

    def run_unless_meta(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        return run(self, *args, grid=grid, warmup=warmup or args[0].is_meta, **options)

    JITFunction.run = run_unless_meta
    try:
        yield
    finally:
        JITFunction.run = run


def _load(kernel: Any) -> None:
    """Brings a kernel to the device; Triton 3.6 compiles a launcher for it, in C."""
    kernel.result().run  # noqa: B018  (a property that loads)
