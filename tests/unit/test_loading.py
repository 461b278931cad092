"""What loading makes of a configuration: types, blocks, and the changes of long block tables."""

import pytest
import torch

from engine_service import upload
from engine_service.config import EngineConfig
from engine_service.loading import CPU_KV_CACHE_BYTES, _dtype
from engine_service.model_config import read_model_config
from engine_service.sequence import SequenceSpec
from support.checkpoints import random_model, save
from support.mixed_work import run_mixed_work

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
BLOCK_BYTES = 2 * 3 * 16 * 2 * 16 * 4  # keys and values, layers, slots, heads, head size, float32


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(random_model("llama"), tmp_path_factory.mktemp("loading"))


@pytest.mark.parametrize(
    ("flags", "num_blocks"),
    [
        pytest.param({"kv_cache_mib": 0}, CPU_KV_CACHE_BYTES // BLOCK_BYTES, id="default"),
        pytest.param({"kv_cache_mib": 3}, (3 << 20) // BLOCK_BYTES, id="MiB"),
        pytest.param({"kv_cache_mib": 3, "num_blocks": 77}, 77, id="blocks"),
        pytest.param(
            {"kv_cache_mib": 3, "dtype": "bfloat16"}, 2 * (3 << 20) // BLOCK_BYTES, id="half-precision"
        ),
    ],
)
def test_the_kv_cache_has_as_many_blocks_as_were_asked_for(local_core, checkpoint, flags, num_blocks):
    core = local_core(checkpoint, **flags)
    assert core.info.num_blocks == core.core._runner.num_blocks == num_blocks
    assert core.scheduler.load.num_free_blocks == num_blocks


@pytest.mark.parametrize(
    ("flag", "stored", "device", "expected"),
    [
        ("auto", "bfloat16", CPU, torch.float32),
        ("auto", "float32", GPU, torch.bfloat16),
        ("auto", "bfloat16", GPU, torch.bfloat16),
        ("auto", "float16", GPU, torch.float16),
        ("float32", "bfloat16", GPU, torch.float32),
        ("float16", "bfloat16", CPU, torch.float16),
    ],
    ids=lambda each: str(each).removeprefix("torch."),
)
def test_the_type_of_weights_follows_flag_device_and_checkpoint(tmp_path, flag, stored, device, expected):
    save(random_model("llama").to(getattr(torch, stored)), tmp_path)
    assert _dtype(EngineConfig(dtype=flag), read_model_config(tmp_path), device) is expected


def test_block_tables_that_take_many_copies_arrive(local_core, checkpoint, monkeypatch):
    prompt = tuple(range(97))
    expected = local_core(checkpoint, kv_block_size=1).generate(SequenceSpec(prompt, 100))
    monkeypatch.setattr(upload, "MAX_CHANGES", 16)
    assert local_core(checkpoint, kv_block_size=1).generate(SequenceSpec(prompt, 100)) == expected


def test_random_work_with_cancels_ends_with_every_token_and_block(local_core, checkpoint):
    core = local_core(checkpoint, num_blocks=16, max_num_seqs=16, max_prefill_tokens=50)
    assert run_mixed_work(core, 50, logprobs=True)
    assert core.scheduler.num_preemptions > 0
