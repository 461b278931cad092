"""Random sequences of every kind that join, leave and are cancelled while others run."""

import random

from engine_service.sampling_params import SamplingParams
from engine_service.sequence import FinishReason, SequenceSpec

VOCAB = 97
KINDS = (
    {"temperature": 0.0},
    {},
    {"temperature": 0.8, "top_p": 0.9},
    {"top_k": 12, "min_p": 0.02},
    {"temperature": 0.9, "repetition_penalty": 1.3, "presence_penalty": 0.4, "frequency_penalty": 0.3},
    {"logit_bias": ((5, 4.0), (60, -50.0))},
)


def run_mixed_work(core, num_sequences=60, *, seed=0, first=0, cancel_share=0.2, **bounds):
    """Runs sequences `first`, `first` + 1, … to their ends; returns those that were cancelled.

    The same arguments give every core the same work at the same steps. `bounds` are those of `_spec`.
    """
    rng = random.Random(seed)
    specs = {number: _spec(rng, number, **bounds) for number in range(first, first + num_sequences)}
    numbers, cancelled = list(specs), set()
    while numbers or core.is_busy:
        for number in [numbers.pop(0) for _ in range(min(len(numbers), rng.randint(0, 6)))]:
            core.submit(number, specs[number])
        if rng.random() < cancel_share and (running := _unfinished(core, specs, cancelled)):
            cancelled.add(victim := rng.choice(running))
            core.end(victim)
        if core.is_busy:
            core.step()
    for number in specs.keys() - cancelled:
        assert core.finished[number] is FinishReason.LENGTH
        assert len(core.tokens[number]) == specs[number].max_tokens
    assert core.scheduler.load.num_free_blocks == core.scheduler.load.num_blocks
    return cancelled


def _spec(rng, number, max_prompt=80, max_tokens=40, logprobs=False):
    """A sequence; some prompts begin alike, so that their blocks are shared."""
    length = rng.randint(1, max_prompt)
    prompt = rng.choice(([place % VOCAB for place in range(length)], rng.choices(range(VOCAB), k=length)))
    wants = {"logprobs": rng.randint(0, 3), "prompt_logprobs": rng.randint(0, 3)} if logprobs else {}
    params = SamplingParams(seed=rng.getrandbits(64), **KINDS[number % len(KINDS)])
    return SequenceSpec(tuple(prompt), rng.randint(1, max_tokens), params, ignore_eos=True, **wants)


def _unfinished(core, specs, cancelled):
    started = [number for number in specs if number in core.tokens]
    return [number for number in started if number not in core.finished and number not in cancelled]
