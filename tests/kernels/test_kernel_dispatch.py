"""Which code an operation runs."""

import inspect
import subprocess
import sys

import pytest
import torch

import tandem_kernels
from tandem_kernels import reference, reference_sample, reference_vision
from tandem_kernels.dispatch import by_device

WITHOUT_TRITON = """
import importlib.util, sys, torch
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "triton" else find_spec(name, *rest)
sys.modules["triton"] = None  # importing it is an error now
import tandem_kernels
assert tandem_kernels.softmax is tandem_kernels.reference.softmax
"""


def test_without_triton_all_is_plain_torch():
    subprocess.run([sys.executable, "-c", WITHOUT_TRITON], check=True, timeout=60)


@pytest.mark.parametrize("name", tandem_kernels.__all__)
def test_every_operation_has_its_reference(name):
    operation = getattr(tandem_kernels, name)
    module = next(each for each in (reference, reference_sample, reference_vision) if hasattr(each, name))
    assert inspect.signature(operation) == inspect.signature(getattr(module, name))


def test_cpu_tensors_go_to_the_reference():
    def softmax(logits: torch.Tensor) -> str:
        return "reference"

    assert by_device(softmax, "softmax")(torch.ones(2, 3)) == "reference"
