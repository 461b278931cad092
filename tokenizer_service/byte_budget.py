"""A bound on the bytes that many objects take together, for as long as each of them lives."""

import threading
import weakref

from tandem_service.errors import RETRY_DELAY_S, OverloadedError


class ByteBudget:
    """Counts bytes; more than there are is refused for now."""

    def __init__(self, max_bytes: int, what: str) -> None:
        """`what` names the bound to clients."""
        self._max_bytes = max_bytes
        self._what = what
        self._num_bytes = 0
        # Objects may end in any thread, also while this one is counting.
        self._lock = threading.RLock()

    def take(self, num_bytes: int) -> None:
        """Takes bytes, to be given back.

        Raises:
            OverloadedError: They are not left.
        """
        with self._lock:
            if self._num_bytes + num_bytes > self._max_bytes:
                message = f"this worker holds {self._what}={self._max_bytes} bytes already"
                raise OverloadedError(message, retry_delay_s=RETRY_DELAY_S)
            self._num_bytes += num_bytes

    def give_back(self, num_bytes: int) -> None:
        """Gives bytes back that were taken."""
        with self._lock:
            self._num_bytes -= num_bytes

    def count(self, holder: object, num_bytes: int) -> None:
        """Counts the bytes of an object that exists already, until it ends; never refuses."""
        with self._lock:
            self._num_bytes += num_bytes
        weakref.finalize(holder, self.give_back, num_bytes).atexit = False
