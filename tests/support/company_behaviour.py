"""What a request gets does not depend on what else runs.

Tests of any device: a directory's conftest says with `local_core` which cores they get.
"""

import random

import pytest

from engine_service.sampling_params import SamplingParams
from engine_service.sequence import SequenceSpec
from support.checkpoints import random_model, save

VOCAB = 97
PROMPT = tuple(random.Random(1).choices(range(VOCAB), k=37))
KINDS = {
    "greedy": SamplingParams(temperature=0.0),
    "seeded": SamplingParams(temperature=0.9, seed=7),
    "top-p": SamplingParams(temperature=1.1, top_p=0.8, seed=2**64 - 1),
    "top-k-min-p": SamplingParams(top_k=12, min_p=0.02, seed=11),
    "penalties": SamplingParams(
        temperature=0.8, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=0.3, seed=3
    ),
    "bias": SamplingParams(temperature=1.0, logit_bias=((5, 4.0), (60, -50.0)), seed=5),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model = random_model("llama", num_key_value_heads=2)
    return save(model, tmp_path_factory.mktemp("company"))


@pytest.fixture(scope="module")
def alone(local_core, checkpoint):
    core = local_core(checkpoint)
    return {name: core.generate(SequenceSpec(PROMPT, 40, params)) for name, params in KINDS.items()}


def _submit_all(core):
    for number, params in enumerate(KINDS.values()):
        core.submit(number, SequenceSpec(PROMPT, 40, params))


def _assert_same(core, alone):
    assert {name: core.tokens[number] for number, name in enumerate(KINDS)} == alone


def test_kinds_of_sampling_differ(alone):
    assert len({tuple(tokens) for tokens in alone.values()}) == len(KINDS)


def test_the_same_in_a_batch_of_64_with_others_joining_and_leaving(local_core, checkpoint, alone):
    rng = random.Random(3)
    core = local_core(checkpoint, max_num_seqs=64)
    others = range(100, 100 + 64 - len(KINDS))
    for number in others:
        _submit_other(core, number, rng)
    for _ in range(3):
        core.step()
    _submit_all(core)
    number = others[-1]
    while core.is_busy:
        core.step()
        if len(core.finished) < len(KINDS) and rng.random() < 0.5:
            number += 1
            _submit_other(core, number, rng)
        if rng.random() < 0.2:
            core.end(rng.randint(100, number))
    _assert_same(core, alone)


def _submit_other(core, number, rng):
    prompt = tuple(rng.choices(range(VOCAB), k=rng.randint(1, 40)))
    params = SamplingParams(temperature=rng.choice((0.0, 1.0)), seed=number)
    core.submit(number, SequenceSpec(prompt, rng.randint(1, 30), params))


@pytest.mark.parametrize("chunk", [1, 16, 36, 37])
def test_the_same_with_the_prompt_in_chunks(local_core, checkpoint, alone, chunk):
    core = local_core(checkpoint, max_prefill_tokens=chunk)
    _submit_all(core)
    core.run()
    _assert_same(core, alone)


def test_the_same_with_prefix_hits(local_core, checkpoint, alone):
    core = local_core(checkpoint)
    core.generate(SequenceSpec((*PROMPT, 4, 5), 3))
    core.tokens.clear()
    core.started.clear()
    core.finished.clear()
    _submit_all(core)
    core.run()
    assert all(core.started[number].num_cached == 32 for number in range(len(KINDS)))
    _assert_same(core, alone)


@pytest.mark.parametrize("block_size", [1, 16], ids=["block1", "block16"])
def test_the_same_after_forced_preemption(local_core, checkpoint, alone, block_size):
    # Six sequences grow to 77 tokens each; the blocks hold three of them.
    core = local_core(
        checkpoint, kv_block_size=block_size, num_blocks=256 // block_size, prefix_caching=False
    )
    _submit_all(core)
    core.run()
    assert core.scheduler.num_preemptions > 0
    _assert_same(core, alone)


@pytest.mark.parametrize("count", [1, 11, 12, 39], ids=lambda count: f"behind-{count}")
def test_the_same_gone_on_with_behind_its_own_first_tokens(local_core, checkpoint, alone, count):
    """As for a core that died: prompt and output so far come in, the rest comes out."""
    core = local_core(checkpoint)
    for number, (name, params) in enumerate(KINDS.items()):
        first = tuple(alone[name][:count])
        core.submit(number, SequenceSpec(PROMPT, 40, params, output_token_ids=first))
    core.run()
    for number, name in enumerate(KINDS):
        assert alone[name][:count] + core.tokens[number] == alone[name]
        assert core.started[number].num_cached <= len(PROMPT)


def test_stops_and_logprobs_go_on_behind_an_answers_first_tokens(local_core, checkpoint, alone):
    answer = alone["seeded"]
    stop = next(token for place, token in enumerate(answer) if place > 5 and token not in answer[:place])
    end = answer.index(stop) + 1
    core = local_core(checkpoint)
    rules = {"stop_token_ids": frozenset((stop,)), "logprobs": 2}
    for number, (count, min_tokens) in enumerate([(0, 0), (5, 0), (end - 1, 0), (end - 1, end - 1)]):
        core.submit(
            number,
            SequenceSpec(
                PROMPT, 40, KINDS["seeded"], min_tokens, output_token_ids=tuple(answer[:count]), **rules
            ),
        )
    core.run()
    whole = core.logprobs[0].logprobs
    for number, count in enumerate((0, 5, end - 1, end - 1)):
        assert answer[:count] + core.tokens[number] == answer[:end]
        assert core.logprobs[number].logprobs == pytest.approx(whole[count:], abs=1e-3)


def test_another_seed_gives_another_answer(local_core, checkpoint, alone):
    core = local_core(checkpoint)
    params = SamplingParams(temperature=0.9, seed=8)
    assert core.generate(SequenceSpec(PROMPT, 40, params)) != alone["seeded"]
