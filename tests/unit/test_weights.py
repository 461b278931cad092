"""Checkpoints that fit are loaded from any layout; those that do not are refused by name."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine_service.sampling_params import SamplingParams
from engine_service.sequence import SequenceSpec
from support.checkpoints import greedy_ids, random_model, save
from support.local_core import LocalCore

SPEC = SequenceSpec((3, 1, 4, 1, 5), 8, SamplingParams(temperature=0.0))


def _edit(directory, change):
    path = directory / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_a_sharded_checkpoint_equals_a_single_file(tmp_path):
    model = random_model("llama")
    save(model, tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert LocalCore(tmp_path).generate(SPEC) == greedy_ids(model, [3, 1, 4, 1, 5], 8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_weights_of_half_precision_are_computed_in_float32(tmp_path, dtype):
    model = random_model("qwen2").to(dtype)
    save(model, tmp_path)
    core = LocalCore(tmp_path)
    assert core.info.dtype == "float32"
    assert core.generate(SPEC) == greedy_ids(model.float(), [3, 1, 4, 1, 5], 8)


def test_bf16_can_be_asked_for(tmp_path):
    save(random_model("llama").to(torch.bfloat16), tmp_path)
    core = LocalCore(tmp_path, dtype="bfloat16")
    assert core.info.dtype == "bfloat16"
    assert len(core.generate(SPEC)) == 8


def test_a_tied_checkpoint_may_carry_the_head_all_the_same(tmp_path):
    model = random_model("llama", tie_word_embeddings=True)
    save(model, tmp_path)
    _edit(tmp_path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert LocalCore(tmp_path).generate(SPEC) == greedy_ids(model, [3, 1, 4, 1, 5], 8)


def test_old_rotary_buffers_are_ignored(tmp_path):
    save(random_model("llama"), tmp_path)
    _edit(tmp_path, lambda t: t.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}))
    assert len(LocalCore(tmp_path).generate(SPEC)) == 8


NAME = "model.layers.1.self_attn.k_proj.weight"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda t: t.pop(NAME), ["missing", NAME], id="missing"),
        pytest.param(
            lambda t: t.update({"model.extra": torch.ones(2)}), ["model.extra", "belong"], id="extra"
        ),
        pytest.param(lambda t: t.update({NAME: torch.ones(3, 4)}), [NAME, "[3, 4]", "[32, 64]"], id="shape"),
        pytest.param(
            lambda t: t.update({NAME: torch.ones(32, 64, dtype=torch.int8)}), [NAME, "torch.int8"], id="type"
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(tmp_path, change, words):
    save(random_model("llama"), tmp_path)
    _edit(tmp_path, change)
    with pytest.raises(ValueError) as error:
        LocalCore(tmp_path)
    assert all(word in str(error.value) for word in words)


def test_a_broken_file_is_refused_by_name(tmp_path):
    save(random_model("llama"), tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.safetensors: cannot be read"):
        LocalCore(tmp_path)


def test_a_missing_file_is_refused_by_name(tmp_path):
    save(random_model("llama"), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has neither model\.safetensors nor"):
        LocalCore(tmp_path)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(
            {"num_blocks": 3, "context_length": 64}, "needs 4 blocks.*which has 3", id="one-block-short"
        ),
        pytest.param(
            {"context_length": 257}, "257: the model has max_position_embeddings=256", id="past-model"
        ),
    ],
)
def test_a_context_that_cannot_be_held_is_refused_with_the_numbers(tmp_path, flags, words):
    save(random_model("llama"), tmp_path)
    with pytest.raises(ValueError, match=words):
        LocalCore(tmp_path, **flags)
