"""What the clients of one load saw, in figures."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tandem_bench.measurement import percentiles, rounded
from tandem_bench.serving.cpu import CpuUse
from tandem_bench.serving.timed_answer import OK, TimedAnswer


@dataclass(frozen=True)
class Goal:
    """What a request must keep to, to count as good."""

    first_ms: float
    per_token_ms: float

    def is_met(self, answer: TimedAnswer) -> bool:
        """Whether TTFT and TPOT are within their bounds."""
        return answer.first_ms <= self.first_ms and (answer.per_token_ms or 0.0) <= self.per_token_ms


@dataclass(frozen=True)
class Figures:
    """One load.

    Attributes:
        load: Its name.
        answers: Those that have ended.
        start_s: When the first request could be sent.
        cpu: What the processes below this one took meanwhile.
        goal: What good requests keep to, if anybody asked.
        was_interrupted: Whether Ctrl-C ended it early.
    """

    load: str
    answers: Sequence[TimedAnswer]
    start_s: float
    cpu: CpuUse
    goal: Goal | None = None
    was_interrupted: bool = False

    @property
    def whole(self) -> list[TimedAnswer]:
        """Answers with all their tokens."""
        return [answer for answer in self.answers if answer.status == OK]

    @property
    def wall_s(self) -> float:
        """To the end of the last answer."""
        return max((answer.end_s for answer in self.answers), default=self.start_s) - self.start_s

    @property
    def num_output(self) -> int:
        """Tokens that came."""
        return sum(answer.num_tokens for answer in self.answers)

    @property
    def output_tokens_per_s(self) -> float:
        """Over the whole load."""
        return self._per_s(self.num_output)

    def to_json(self) -> dict[str, Any]:
        """Every figure, units in the keys."""
        found = {
            "load": self.load,
            "num_requests": len(self.answers),
            "was_interrupted": self.was_interrupted,
            "wall_s": rounded(self.wall_s),
            "requests_per_s": rounded(self._per_s(len(self.whole))),
            "input_tokens_per_s": rounded(self._per_s(sum(answer.num_input for answer in self.whole))),
            "output_tokens_per_s": rounded(self.output_tokens_per_s),
            **latencies(self.whole),
            "errors": self.errors(),
            **self.cpu.to_json(self.num_output, self.wall_s),
        }
        if self.goal is not None:
            found["good_requests_per_s"] = rounded(self._per_s(sum(map(self.goal.is_met, self.whole))))
        return found

    def errors(self) -> Mapping[str, int]:
        """Requests that failed, by status."""
        return dict(Counter(answer.status for answer in self.answers if answer.status != OK))

    def _per_s(self, count: float) -> float:
        return count / self.wall_s if self.wall_s else 0.0


def latencies(answers: Sequence[TimedAnswer]) -> dict[str, Any]:
    """TTFT and the core's part of it, ITL, TPOT and the whole time of whole answers, as percentiles."""
    per_token = [answer.per_token_ms for answer in answers if answer.per_token_ms is not None]
    num_deltas = sum(len(answer.arrivals_s) for answer in answers)
    return {
        "ttft": percentiles([answer.first_ms for answer in answers], "ms"),
        "ttft_in_core": percentiles([answer.core_ms for answer in answers], "ms"),
        "itl": percentiles([gap for answer in answers for gap in answer.gaps_ms], "ms"),
        "tpot": percentiles(per_token, "ms"),
        "end_to_end": percentiles([answer.whole_ms for answer in answers], "ms"),
        "tokens_per_delta": rounded(sum(answer.num_tokens for answer in answers) / max(1, num_deltas)),
    }
