"""One request of a load, and when the parts of its answer came."""

import itertools
from dataclasses import dataclass, field

OK = "OK"
INCOMPLETE = "INCOMPLETE"
"""The status of an answer that ended well and has not all of its tokens."""


@dataclass(frozen=True)
class TimedRequest:
    """A greedy request that stops on length only.

    Attributes:
        due_s: When it is sent, in seconds after the load's start; None if it is when a stream is free.
    """

    token_ids: tuple[int, ...]
    num_output: int
    due_s: float | None = None


@dataclass
class TimedAnswer:
    """What its client saw. Times are those of the machine's monotonic clock.

    Attributes:
        num_input: Tokens of the prompt.
        arrivals_s: One for each delta, which may carry several tokens.
        num_tokens: Of all deltas.
        core_ms: From the core's taking up the request to its first token, as the last event says.
        status: The gRPC status's name, or INCOMPLETE.
    """

    num_input: int
    start_s: float
    end_s: float = 0.0
    arrivals_s: list[float] = field(default_factory=list)
    num_tokens: int = 0
    core_ms: float = 0.0
    status: str = OK

    @property
    def first_ms(self) -> float:
        """TTFT: from sending the request to its first delta."""
        return (self.arrivals_s[0] - self.start_s) * 1e3

    @property
    def gaps_ms(self) -> list[float]:
        """ITL: from one delta to the next."""
        return [(later - earlier) * 1e3 for earlier, later in itertools.pairwise(self.arrivals_s)]

    @property
    def whole_ms(self) -> float:
        """From sending the request to its last event."""
        return (self.end_s - self.start_s) * 1e3

    @property
    def per_token_ms(self) -> float | None:
        """TPOT: the time after the first token, for each of the others; None if there are no others."""
        others = self.num_tokens - 1
        return (self.whole_ms - self.first_ms) / others if others > 0 else None
