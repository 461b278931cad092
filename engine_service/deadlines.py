"""When sequences end if nothing ends them before."""

import heapq

from engine_service.sequence import SequenceKey


class Deadlines:
    """At most one time for each sequence, in seconds of the scheduler's clock."""

    def __init__(self) -> None:
        """Nothing ends."""
        self._times: dict[SequenceKey, float] = {}
        # Entries that no longer hold stay until they come up, or are too many.
        self._heap: list[tuple[float, SequenceKey]] = []

    @property
    def next_s(self) -> float | None:
        """The next one, or None."""
        while self._heap and not self._holds(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def set(self, key: SequenceKey, time_s: float | None) -> None:
        """A sequence ends then, whatever was set before; None is never."""
        if time_s is None:
            self.drop(key)
        elif self._times.get(key) != time_s:
            self._times[key] = time_s
            heapq.heappush(self._heap, (time_s, key))

    def drop(self, key: SequenceKey) -> None:
        """A sequence has ended, or has no deadline any more."""
        if self._times.pop(key, None) is not None and len(self._heap) > 2 * len(self._times) + 16:
            self._heap = [entry for entry in self._heap if self._holds(*entry)]
            heapq.heapify(self._heap)

    def take_passed(self, now_s: float) -> list[SequenceKey]:
        """The sequences whose time has come; they have no deadline afterwards."""
        passed = []
        while self._heap and self._heap[0][0] <= now_s:
            time_s, key = heapq.heappop(self._heap)
            if self._holds(time_s, key):
                del self._times[key]
                passed.append(key)
        return passed

    def _holds(self, time_s: float, key: SequenceKey) -> bool:
        return self._times.get(key) == time_s
