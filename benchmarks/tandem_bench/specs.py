"""Sequences for the engine: prompts of random ids that stop on length only."""

from collections.abc import Sequence
from dataclasses import replace

from engine_service.sampling_params import SamplingParams
from engine_service.sequence import SequenceSpec
from tandem_bench.load import Lengths, random_prompts

GREEDY = SamplingParams(temperature=0.0)


def random_specs(
    lengths: Lengths, vocab_size: int, seed: str, sampling: SamplingParams = GREEDY
) -> list[SequenceSpec]:
    """A sequence for each request; each draws with a seed of its own."""
    prompts = random_prompts(lengths.inputs, vocab_size, seed)
    return specs_of(prompts, lengths.outputs, sampling)


def specs_of(
    prompts: Sequence[tuple[int, ...]], outputs: Sequence[int], sampling: SamplingParams = GREEDY
) -> list[SequenceSpec]:
    """Sequences of given prompts."""
    return [
        SequenceSpec(prompt, num_output, replace(sampling, seed=place), ignore_eos=True)
        for place, (prompt, num_output) in enumerate(zip(prompts, outputs, strict=True))
    ]
