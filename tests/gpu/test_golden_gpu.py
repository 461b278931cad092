"""Greedy ids and log-probabilities on a GPU equal those of transformers on small random models."""

import pytest

from support.golden_behaviour import SHAPES, assert_equal_to_transformers

FEW = ("llama-gqa2-tied", "qwen2-gqa7-head64-tied", "qwen3-gqa7-head80-tied")


@pytest.mark.parametrize("local_core", ["graphs"], indirect=True)
@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_ids_and_logprobs_equal_transformers(local_core, tmp_path, shape):
    assert_equal_to_transformers(local_core, tmp_path, shape, block_size=16)


@pytest.mark.parametrize("shape", FEW)
def test_the_same_with_blocks_of_one_slot(local_core, tmp_path, shape):
    assert_equal_to_transformers(local_core, tmp_path, shape, block_size=1)
