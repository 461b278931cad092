"""Triton without a GPU and without a compiler: launches on the meta device, and who would be compiled."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import cache, driver
from triton.runtime.jit import JITFunction

from support.kernel_signatures import CASES, MAX_SHARED_BYTES

HOPPER = (9, 0)


class HopperDriver:
    """What launchers and Triton ask of a GPU's driver before a launch."""

    utils = SimpleNamespace(
        get_device_properties=lambda _: {"max_shared_mem": MAX_SHARED_BYTES[90], "multiprocessor_count": 132}
    )

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def use_hopper(monkeypatch: pytest.MonkeyPatch, broken: str = "") -> list[str]:
    """Makes the meta device stand for a Hopper GPU on which nothing is compiled yet.

    Args:
        monkeypatch: Takes all back.
        broken: The kernel whose compilation fails.

    Returns:
        The kernels that Triton asks its compiler for, by name, as it asks.
    """
    compiled: list[str] = []

    def compile(source: Any, **_: Any) -> Any:
        compiled.append(source.fn.__name__)
        if source.fn.__name__ == broken:
            raise RuntimeError(f"{broken} cannot be compiled")
        return SimpleNamespace(run=None)

    monkeypatch.setattr(driver, "_active", HopperDriver())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: HOPPER)
    monkeypatch.setattr(triton.compiler, "compile", compile)
    monkeypatch.setattr(cache, "triton_key", lambda: "")  # hashes hundreds of megabytes
    forget_compiled(monkeypatch)
    return compiled


def forget_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets Triton ask for every kernel again, of its cache on the disk too."""
    for kernel in {case.kernel for case in CASES}:
        assert isinstance(kernel, JITFunction)
        monkeypatch.setattr(kernel, "device_caches", defaultdict(kernel.create_binder))
