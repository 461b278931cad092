"""How one sequence's tokens are drawn."""

import math
from dataclasses import dataclass, fields

from tandem_service.errors import Violation

MAX_LOGIT_BIAS = 300
MAX_LOGPROBS = 20
MAX_STOP_TOKEN_IDS = 64

_BOUNDS = {
    "temperature": (0.0, 100.0),
    "min_p": (0.0, 1.0),
    "presence_penalty": (-2.0, 2.0),
    "frequency_penalty": (-2.0, 2.0),
}
_BOUNDS_ABOVE_ZERO = {"top_p": 1.0, "repetition_penalty": 10.0}


@dataclass(frozen=True)
class SamplingParams:
    """The fields of tandem.v1.Sampling with their neutral values.

    Attributes:
        logit_bias: Pairs of token id and what is added to its logit.
        seed: Key of the random draws, in [0, 2**64).
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int = 0

    @property
    def is_greedy(self) -> bool:
        """Whether the most likely token is taken."""
        return self.temperature == 0.0

    @property
    def has_penalties(self) -> bool:
        """Whether the logits depend on the tokens so far."""
        return self.repetition_penalty != 1.0 or self.presence_penalty != 0.0 or self.frequency_penalty != 0.0

    def violations(self, vocab_size: int) -> list[Violation]:
        """What is out of bounds, for a model with `vocab_size` token ids."""
        found = [
            _violation(name, getattr(self, name), f"[{low:g}, {high:g}]")
            for name, (low, high) in _BOUNDS.items()
            if not low <= getattr(self, name) <= high
        ]
        found += [
            _violation(name, getattr(self, name), f"(0, {high:g}]")
            for name, high in _BOUNDS_ABOVE_ZERO.items()
            if not 0 < getattr(self, name) <= high
        ]
        if self.top_k < 0:
            found.append(_violation("top_k", self.top_k, "[0, 2147483647]"))
        return found + self._bias_violations(vocab_size)

    def _bias_violations(self, vocab_size: int) -> list[Violation]:
        field = "sampling.logit_bias"
        if len(self.logit_bias) > MAX_LOGIT_BIAS:
            return [Violation(field, f"has {len(self.logit_bias)} entries; at most {MAX_LOGIT_BIAS}")]
        return [
            Violation(field, f"{token}: {bias:g} must be a token id below {vocab_size} and in [-100, 100]")
            for token, bias in self.logit_bias
            if not (0 <= token < vocab_size and math.fabs(bias) <= 100)
        ]


def _violation(name: str, value: float, bounds: str) -> Violation:
    assert name in {field.name for field in fields(SamplingParams)}
    return Violation(f"sampling.{name}", f"{value:g} is not in {bounds}")
