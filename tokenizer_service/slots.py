"""Places for running requests, counted."""

import contextlib
from collections.abc import Iterator

from tandem_service.errors import RETRY_DELAY_S, OverloadedError


class Slots:
    """A bound on how many requests run at once."""

    def __init__(self, capacity: int) -> None:
        """`capacity` places, all free."""
        self._capacity = capacity
        self._num_taken = 0

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Holds one place.

        Raises:
            OverloadedError: All are taken.
        """
        if self._num_taken >= self._capacity:
            message = f"this worker runs {self._num_taken} requests, at most max_requests={self._capacity}"
            raise OverloadedError(message, retry_delay_s=RETRY_DELAY_S)
        self._num_taken += 1
        try:
            yield
        finally:
            self._num_taken -= 1
