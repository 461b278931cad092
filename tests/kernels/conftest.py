"""Outputs are poisoned: what an operation allocates and does not write stays NaN."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    # torch fills what `torch.empty` returns with NaN, or the largest integer, in this mode.
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)
