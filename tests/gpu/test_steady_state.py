"""Once the engine has started, steps compile nothing, take no memory and never wait for the device."""

import pytest
import torch
import triton

from engine_service.sequence import FinishReason
from support.checkpoints import random_model, save
from support.local_core import LocalCore
from support.mixed_work import run_mixed_work


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(random_model("llama", num_key_value_heads=1), tmp_path_factory.mktemp("steady"))


@pytest.fixture(scope="module", params=["graphs", "eager"])
def core(request, checkpoint):
    """A core that has answered a few requests; without graphs it compiles when a batch size first comes."""
    is_eager = request.param == "eager"
    core = LocalCore(checkpoint, device="cuda", eager=is_eager, max_num_seqs=16)
    run_mixed_work(core, 200 if is_eager else 6, first=10_000, cancel_share=0, logprobs=True, max_prompt=200)
    return core


def _work(core, first):
    run_mixed_work(core, 100, seed=first, first=first, logprobs=True, max_prompt=200)


def test_nothing_is_compiled(core, monkeypatch):
    compiled = []
    runtime = triton.knobs.runtime
    monkeypatch.setattr(runtime, "jit_post_compile_hook", lambda *, repr, **_: compiled.append(repr))
    _work(core, 0)
    assert compiled == []


def test_no_memory_is_taken(core):
    _work(core, 1000)
    before = torch.cuda.memory_stats()
    _work(core, 2000)
    after = torch.cuda.memory_stats()
    for name in ("num_alloc_retries", "segment.all.allocated", "reserved_bytes.all.peak"):
        assert after[name] == before[name], name
    assert after["allocated_bytes.all.current"] == before["allocated_bytes.all.current"]


def test_launching_never_waits_for_the_device(core):
    torch.cuda.set_sync_debug_mode("error")
    try:
        _work(core, 3000)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert FinishReason.ERROR not in core.finished.values()


def test_the_same_seeds_give_the_same_tokens_again(checkpoint):
    # A prefix hit would leave another batch to compute, and another batch other rounding.
    core = LocalCore(checkpoint, device="cuda", prefix_caching=False, max_num_seqs=16)
    for first in (0, 600):
        run_mixed_work(core, 60, first=first)
    assert [core.tokens[number] for number in range(60)] == [
        core.tokens[number] for number in range(600, 660)
    ]
