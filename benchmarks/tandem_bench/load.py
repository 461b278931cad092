"""What is asked of the engine: lengths of prompts and answers, and prompts of random ids."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Lengths:
    """Requests without their ids.

    Attributes:
        inputs: Tokens of each prompt.
        outputs: Tokens of each answer.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @classmethod
    def equal(cls, count: int, num_input: int, num_output: int) -> "Lengths":
        """`count` requests of the same lengths."""
        return cls((num_input,) * count, (num_output,) * count)

    @property
    def num_output_tokens(self) -> int:
        """Tokens of all answers."""
        return sum(self.outputs)

    @property
    def num_input_tokens(self) -> int:
        """Tokens of all prompts."""
        return sum(self.inputs)

    def first(self, count: int) -> "Lengths":
        """The first requests."""
        return Lengths(self.inputs[:count], self.outputs[:count])

    def shrunk(self, divisor: int) -> "Lengths":
        """A `divisor`-th of the requests, each with a `divisor`-th of its tokens, to try things out."""
        kept = self.first(max(1, len(self.inputs) // divisor))
        return Lengths(
            tuple(max(1, each // divisor) for each in kept.inputs),
            tuple(max(1, each // divisor) for each in kept.outputs),
        )


def mix(name: str) -> Lengths:
    """The lengths of `mix256` or `mix1024`."""
    raw = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return Lengths(tuple(raw["input_lengths"]), tuple(raw["output_lengths"]))


def random_prompts(lengths: Sequence[int], vocab_size: int, seed: str) -> list[tuple[int, ...]]:
    """Prompts of uniform ids. Prompts of another seed have no beginning in common with these."""
    source = random.Random(seed)
    return [tuple(source.choices(range(vocab_size), k=length)) for length in lengths]
