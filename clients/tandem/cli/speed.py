"""How fast an answer came."""

import time

from tandem.result import Delta


class Stopwatch:
    """Times one answer, from its creation, by the clock of the client."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()
        self._first_s = self._start_s
        self._last_s = self._start_s
        self._num_first_tokens = 0
        self._num_tokens = 0

    def add(self, delta: Delta) -> None:
        """Takes the next delta as it arrives."""
        self._last_s = time.monotonic()
        if self._num_tokens == 0:
            self._first_s = self._last_s
            self._num_first_tokens = delta.num_tokens
        self._num_tokens += delta.num_tokens

    def summary(self) -> str:
        """Number of tokens, TTFT, and the rate after the first delta, if there were more."""
        if self._num_tokens == 0:
            return "no tokens"
        words = [f"{self._num_tokens} tokens", f"TTFT {(self._first_s - self._start_s) * 1000:.0f} ms"]
        num_timed = self._num_tokens - self._num_first_tokens
        if num_timed > 0 and self._last_s > self._first_s:
            words.insert(1, f"{num_timed / (self._last_s - self._first_s):.1f} tokens/s")
        return ", ".join(words)
