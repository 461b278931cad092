"""Greedy ids and log-probabilities on a CPU equal those of transformers on small random models."""

import pytest

from support.golden_behaviour import SHAPES, assert_equal_to_transformers


@pytest.mark.parametrize("block_size", [1, 16], ids=["block1", "block16"])
@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_ids_and_logprobs_equal_transformers(local_core, tmp_path, shape, block_size):
    assert_equal_to_transformers(local_core, tmp_path, shape, block_size)
