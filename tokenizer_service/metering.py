"""What requests use of their client's quotas."""

import contextlib

from tandem_service.access import caller, counted_request


class Meter:
    """One request's place among those of its client that run, and its tokens, counted as they come."""

    def __init__(self) -> None:
        """Takes the place, for whoever made the running call.

        Raises:
            OverloadedError: A quota is used up.
        """
        self._client = caller()
        self._num_counted = 0
        self._place = contextlib.ExitStack()
        self._place.enter_context(counted_request())

    @property
    def is_asked(self) -> bool:
        """Whether there is a client whose tokens count."""
        return self._client is not None

    def count(self, num_tokens: int) -> None:
        """Counts what is new of the tokens of prompt and answers, which are so many by now."""
        if self._client is not None and num_tokens > self._num_counted:
            self._client.use_tokens(num_tokens - self._num_counted)
            self._num_counted = num_tokens

    def free_place(self) -> None:
        """The request runs no more; does nothing the second time."""
        self._place.close()


def count_attached() -> None:
    """Counts a call that reads a request which is there already.

    Raises:
        OverloadedError: The caller's requests of this minute are used up.
    """
    client = caller()
    if client is not None:
        client.attach()
