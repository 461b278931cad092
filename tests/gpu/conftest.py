"""Cores run on the GPU here, in float32, so that they can be compared; each test with graphs and without."""

import functools

import pytest
import torch

from support.local_core import LocalCore


@pytest.fixture(autouse=True, scope="session")
def _gpu():
    if not torch.cuda.is_available():
        pytest.skip(f"needs an NVIDIA GPU; torch {torch.__version__} finds none")


@pytest.fixture(scope="module", params=["graphs", "eager"])
def local_core(request):
    return functools.partial(LocalCore, device="cuda", dtype="float32", eager=request.param == "eager")
