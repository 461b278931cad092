"""Where kernels run in tests, on what, and how far they may be off."""

import os
from typing import Any

import pytest
import torch

# Of the relative error in the Frobenius norm, and of the largest error over the largest value.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
_IDS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def kernel_device() -> torch.device:
    """The GPU, or the CPU where Triton interprets; skips the calling file where neither is so."""
    if os.environ.get("TRITON_INTERPRET") == "1":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        pytest.skip(
            "needs an NVIDIA GPU or the interpreter of test_kernels_interpreted", allow_module_level=True
        )
    return torch.device("cuda")


def dtypes(device: torch.device) -> list[Any]:
    """Parameters for what kernels run in; Triton's interpreter has no right bfloat16."""
    found = [dtype for dtype in TOLERANCES if device.type == "cuda" or dtype != torch.bfloat16]
    return [pytest.param(dtype, id=_IDS[dtype]) for dtype in found]


def random_tensor(
    *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Standard normal values, the same on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device, dtype)


def assert_close(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    """`found` has the type and is as near to `expected` as the type's tolerance asks."""
    assert found.dtype == dtype
    expected = expected.cpu().double()
    error = found.cpu().double() - expected
    assert error.norm() <= TOLERANCES[dtype] * expected.norm()
    assert error.abs().max() <= TOLERANCES[dtype] * expected.abs().max()
