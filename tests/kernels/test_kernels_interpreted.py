"""Runs the kernels' tests in Triton's interpreter, which has to be chosen before Triton is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

# The interpreter's products are small; BLAS threads, which count the host's cores and not a container's
# share of them, would only wait for each other.
ENVIRONMENT = {"TRITON_INTERPRET": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
FILES = sorted(Path(__file__).parent.glob("test_*_kernels.py"))


@pytest.mark.timeout(600)
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU runs the same tests on compiled kernels")
def test_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", "-q", "-rp", "-p", "no:cacheprovider", *map(str, FILES)]
    finished = subprocess.run(
        command,
        env=os.environ | ENVIRONMENT,
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout
    for file in FILES:
        assert f"PASSED tests/kernels/{file.name}::" in finished.stdout
