"""An engine without weights: every sequence repeats its prompt at a set rate."""

import time

from engine_service.plan import Outcome, Plan
from engine_service.sequence import Logprobs, Sequence


class FakeRunner:
    """Answers in place of a model, for client developers and load tests. It loads no torch."""

    def __init__(self, rate: float, eos_ids: tuple[int, ...]) -> None:
        """A runner of steps.

        Args:
            rate: Tokens per second of each sequence; 0 is as fast as possible.
            eos_ids: Ids that are left out of the repetition, since they would end it.
        """
        self._step_s = 1 / rate if rate else 0.0
        self._eos_ids = frozenset(eos_ids)
        self._due_s = 0.0

    def launch(self, plan: Plan) -> tuple[float, Outcome]:
        """Makes the step's outcome and the time at which it is due."""
        self._due_s = max(self._due_s + self._step_s, time.monotonic())
        drawing = plan.drawing()
        outcome = Outcome([self._token(sequence) for sequence in drawing])
        for place, sequence in enumerate(drawing):
            if sequence.spec.logprobs is not None:
                outcome.logprobs[place] = _certain([outcome.tokens[place]], sequence.spec.logprobs)
        for place, chunk in enumerate(plan.prefills):
            if chunk.sequence.prompt_logprobs is not None:
                predicted = chunk.sequence.tokens[chunk.start + 1 : chunk.start + chunk.length + 1]
                k = chunk.sequence.prompt_logprobs.num_candidates
                outcome.prompt_logprobs[place] = _certain(predicted, k)
        return self._due_s, outcome

    def collect(self, launched: tuple[float, Outcome]) -> Outcome:
        """Waits until the step is due."""
        due_s, outcome = launched
        if (wait_s := due_s - time.monotonic()) > 0:
            time.sleep(wait_s)
        return outcome

    def check(self) -> None:
        """Nothing can break."""

    def _token(self, sequence: Sequence) -> int:
        # The token in flight counts: this step draws the one after it.
        place = len(sequence.tokens) + sequence.num_in_flight - 1 - sequence.num_prompt
        token = sequence.tokens[place % sequence.num_prompt]
        return token if token not in self._eos_ids else self._replacement()

    def _replacement(self) -> int:
        return next(token for token in range(len(self._eos_ids) + 1) if token not in self._eos_ids)


def _certain(tokens: list[int], num_candidates: int) -> Logprobs:
    """Entries that say each token was certain; further candidates are impossible tokens 0, 1, …"""
    logprobs = Logprobs(num_candidates)
    for token in tokens:
        others = [other for other in range(num_candidates + 1) if other != token]
        logprobs.logprobs.append(0.0)
        logprobs.candidate_tokens += [token, *others][:num_candidates]
        logprobs.candidate_logprobs += [0.0, *[-100.0] * num_candidates][:num_candidates]
    return logprobs
