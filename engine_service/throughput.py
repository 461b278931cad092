"""How fast prompts are computed and sequences leave the queue, measured by the step loop."""

import math
from collections import deque
from statistics import median

from engine_service.plan import Plan, Rates

_NUM_STEPS = 16
_MIN_STEPS = 8
_MEMORY_S = 10.0


class Throughput:
    """Is told when steps begin and end; a step begins before the one ahead of it has ended."""

    def __init__(self, max_prefill_tokens: int) -> None:
        """`max_prefill_tokens` is what a full step computes of prompts."""
        # The time of a step with less says how long a step takes at least, not what prompts cost.
        self._full_step = max(1, max_prefill_tokens // 2)
        # The median of a few steps: one that compiles or loads something takes a hundred times as long.
        self._prefill_rates: deque[float] = deque(maxlen=_NUM_STEPS)
        self._num_in_flight = 0
        self._since_s = 0.0
        self._num_begun = 0.0
        self._queued_s = 0.0

    def begin_step(self, now_s: float) -> None:
        """A step with work was planned."""
        if not self._num_in_flight:
            self._since_s = now_s
        self._num_in_flight += 1

    def end_step(self, now_s: float, plan: Plan, *, has_queue: bool) -> None:
        """The oldest step is done; `has_queue` says whether sequences wait that could begin."""
        elapsed_s = self._end(now_s)
        if plan.prefills and not plan.images and elapsed_s > 0:
            num_tokens = sum(chunk.length for chunk in plan.prefills)
            if num_tokens >= self._full_step:
                self._prefill_rates.append(num_tokens / elapsed_s)
        if has_queue:
            kept = math.exp(-elapsed_s / _MEMORY_S)
            self._num_begun = kept * self._num_begun + sum(chunk.is_first for chunk in plan.prefills)
            self._queued_s = kept * self._queued_s + elapsed_s

    def drop_step(self, now_s: float) -> None:
        """The oldest step broke."""
        self._end(now_s)

    @property
    def rates(self) -> Rates:
        """What was measured lately."""
        return Rates(
            prefill_tokens_per_s=median(self._prefill_rates)
            if len(self._prefill_rates) >= _MIN_STEPS
            else None,
            begun_per_s=self._num_begun / self._queued_s if self._num_begun and self._queued_s else None,
        )

    def _end(self, now_s: float) -> float:
        self._num_in_flight -= 1
        elapsed_s, self._since_s = now_s - self._since_s, now_s
        return elapsed_s
