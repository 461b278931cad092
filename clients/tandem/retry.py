"""Deadlines, and when a failed call may be made again."""

import enum
import math
import random
import time
from dataclasses import dataclass

from tandem.errors import OverloadedError, TandemError, UnavailableError


class Default(enum.Enum):
    """Marks an argument that was not given, where None has a meaning of its own."""

    TIMEOUT = "the client's timeout"


Timeout = float | None | Default
"""Seconds that a call may take, retries included; None or infinity for no limit."""

# 31 years. A point in time beyond the end of gRPC's clock is one that has passed.
_LONGEST_S = 1e9

# What gRPC is given where no time is left: 0 it rounds up, and a quick answer is still in time.
_PASSED_S = -1.0


def limit_s(name: str, timeout_s: float | None) -> float | None:
    """A timeout as gRPC can count it: None for no limit, below 0 where no time is left.

    Args:
        name: Of the argument, for the error.
        timeout_s: What the caller gave, in seconds.

    Raises:
        ValueError: It is not a number.
    """
    if timeout_s is None or timeout_s == math.inf:
        return None
    if timeout_s != timeout_s:
        raise ValueError(f"{name}={timeout_s}: must be a number of seconds, or None for no limit")
    return min(timeout_s, _LONGEST_S) if timeout_s > 0 else _PASSED_S


def chosen_limit_s(timeout: Timeout, default_s: float | None) -> float | None:
    """The limit of one call, where the client's is `default_s`; see `limit_s`."""
    return default_s if isinstance(timeout, Default) else limit_s("timeout", timeout)


class Deadline:
    """A point in time, or never."""

    def __init__(self, timeout_s: float | None) -> None:
        """The deadline is `timeout_s` seconds from now."""
        self._end_s = None if timeout_s is None else time.monotonic() + timeout_s

    def remaining_s(self) -> float | None:
        """Seconds left, below 0 once it has passed; None if there is no limit."""
        if self._end_s is None:
            return None
        left_s = self._end_s - time.monotonic()
        return left_s if left_s > 0 else _PASSED_S


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
