"""What one client has used, held against its quotas."""

import contextlib
import time
from collections.abc import Callable, Iterator

from tandem_service.errors import RETRY_DELAY_S, OverloadedError
from tandem_service.token_file import Quotas

_MINUTE_S = 60.0


class Bucket:
    """An allowance that refills evenly: a minute's worth at most.

    It may be overdrawn by what is known only later, such as the length of an answer; then nothing begins
    until it has refilled.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        """A full bucket; `clock` gives seconds."""
        self._per_minute = per_minute
        self._clock = clock
        self._level = float(per_minute)
        self._level_at_s = clock()

    def take(self, amount: int) -> None:
        """Takes out, also what is not there."""
        self._refill()
        self._level -= amount

    def wait_s(self) -> float:
        """Seconds until there is a whole unit in it, 0 if there is."""
        self._refill()
        return max(0.0, (1.0 - self._level) * _MINUTE_S / self._per_minute)

    def _refill(self) -> None:
        now_s = self._clock()
        gained = (now_s - self._level_at_s) * self._per_minute / _MINUTE_S
        self._level = min(float(self._per_minute), self._level + gained)
        self._level_at_s = now_s


class Client:
    """Somebody with a token, in this process.

    Attributes:
        name: The token's name.
        quotas: What it may use.
    """

    def __init__(self, name: str, quotas: Quotas, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is used yet; `clock` gives seconds."""
        self.name = name
        self.quotas = quotas
        self._num_running = 0
        self._requests = _bucket(quotas.requests_per_minute, clock)
        self._tokens = _bucket(quotas.tokens_per_minute, clock)

    @contextlib.contextmanager
    def running_request(self) -> Iterator[None]:
        """Counts one request for as long as the context lasts.

        Raises:
            OverloadedError: A quota is used up; it says when to try again.
        """
        self._check()
        if self._requests is not None:
            self._requests.take(1)
        self._num_running += 1
        try:
            yield
        finally:
            self._num_running -= 1

    def attach(self) -> None:
        """Counts a call that reads what another request makes: it takes no place, and uses no tokens.

        Raises:
            OverloadedError: The requests of this minute are used up; it says when to try again.
        """
        self._check_bucket("requests_per_minute", self._requests)
        if self._requests is not None:
            self._requests.take(1)

    def use_tokens(self, num_tokens: int) -> None:
        """Counts tokens of a prompt or an answer."""
        if self._tokens is not None:
            self._tokens.take(num_tokens)

    def _check(self) -> None:
        bound = self.quotas.concurrent_requests
        if bound is not None and self._num_running >= bound:
            what = f"{self._num_running} requests run already"
            raise self._overloaded("concurrent_requests", what, RETRY_DELAY_S)
        self._check_bucket("requests_per_minute", self._requests)
        self._check_bucket("tokens_per_minute", self._tokens)

    def _check_bucket(self, quota: str, bucket: Bucket | None) -> None:
        wait_s = 0.0 if bucket is None else bucket.wait_s()
        if wait_s > 0:
            raise self._overloaded(quota, f"used up for another {wait_s:.3g} s", wait_s)

    def _overloaded(self, quota: str, what: str, wait_s: float) -> OverloadedError:
        message = f"quota {quota}={getattr(self.quotas, quota)} of {self.name!r}: {what}"
        return OverloadedError(message, retry_delay_s=wait_s)


def _bucket(per_minute: int | None, clock: Callable[[], float]) -> Bucket | None:
    return None if per_minute is None else Bucket(per_minute, clock)
