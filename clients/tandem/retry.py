"""Deadlines, and when a failed call may be made again."""

import enum
import random
import time
from dataclasses import dataclass

from tandem.errors import OverloadedError, TandemError, UnavailableError


class Default(enum.Enum):
    """Marks an argument that was not given, where None has a meaning of its own."""

    TIMEOUT = "the client's timeout"


Timeout = float | None | Default
"""Seconds that a call may take, retries included; None for no limit."""


class Deadline:
    """A point in time, or never."""

    def __init__(self, timeout_s: float | None) -> None:
        """The deadline is `timeout_s` seconds from now."""
        self._end_s = None if timeout_s is None else time.monotonic() + timeout_s

    def remaining_s(self) -> float | None:
        """Seconds left, at least 0; None if there is no limit."""
        return None if self._end_s is None else max(0.0, self._end_s - time.monotonic())


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and how long after a failure, a call is made again.

    Attributes:
        retries: The most attempts after the first one.
        first_delay_s: Upper bound of the first delay; it doubles with each attempt.
        max_delay_s: Where the doubling ends.
    """

    retries: int = 2
    first_delay_s: float = 0.1
    max_delay_s: float = 5.0

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ValueError(f"retries={self.retries}: must be at least 0")

    def delay_s(self, error: TandemError, attempt: int, deadline: Deadline) -> float | None:
        """How long to wait before the next attempt.

        The caller asks only for calls that can be made twice: those that change nothing, or have
        answered nothing yet.

        Args:
            error: Why the attempt failed.
            attempt: Which attempt that was, from 0.
            deadline: The call's deadline.

        Returns:
            Seconds, or None if the error is final: of another kind, after the last retry, or with
            too little time left.
        """
        if attempt >= self.retries or not _may_pass(error):
            return None
        bound = min(self.max_delay_s, self.first_delay_s * 2**attempt)
        # Half of it is random, so that clients that failed together do not come back together.
        delay = bound * random.uniform(0.5, 1.0) + (error.retry_delay_s or 0.0)
        remaining = deadline.remaining_s()
        return delay if remaining is None or delay < remaining else None


def _may_pass(error: TandemError) -> bool:
    overloaded_for_now = isinstance(error, OverloadedError) and error.retry_delay_s is not None
    return isinstance(error, UnavailableError) or overloaded_for_now
