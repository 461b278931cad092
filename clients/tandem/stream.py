"""The events of one request, for threads."""

import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from tandem import decode, status
from tandem.collect import Collector
from tandem.request import Request
from tandem.result import Completion, Delta, Event, Started
from tandem.resumption import Resumption
from tandem.retry import Deadline, RetryPolicy


class Stream:
    """The events of one request: an iterable, once, and a context manager.

    The request has been sent when this object exists. Leaving the loop over it, leaving the context
    and `close` cancel what still runs; a request with `linger` ends only after that time.
    """

    def __init__(
        self,
        request: Request,
        start: Callable[[float | None, int], Any],
        timeout_s: float | None,
        policy: RetryPolicy,
    ) -> None:
        """Made by `Client.stream`.

        Args:
            request: What is asked for.
            start: Makes the gRPC call, with a timeout in seconds, for what follows the first tokens of
                each answer.
            timeout_s: For all calls together.
            policy: When a call is made again.
        """
        self._request = request
        self._resumption = Resumption(request)
        self._start = start
        self._deadline = Deadline(timeout_s)
        self._policy = policy
        self._closed = threading.Event()
        self._call = start(timeout_s, 0)

    def __iter__(self) -> Iterator[Event]:
        """Yields Started, Delta and Finished events as they come.

        Raises:
            TandemError: The request failed.
        """
        try:
            yield from self._events()
        finally:
            self.close()

    def texts(self) -> Iterator[str]:
        """Yields the text of each delta as it comes."""
        for event in self:
            if isinstance(event, Delta):
                yield event.text

    def completion(self) -> Completion:
        """Reads all events and adds them up.

        Raises:
            TandemError: The request failed.
        """
        collector = Collector(self._request)
        for event in self:
            collector.add(event)
        return collector.completion()

    def close(self) -> None:
        """Cancels the request unless it has finished. May be called from any thread."""
        self._closed.set()
        self._call.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _events(self) -> Iterator[Event]:
        attempt = 0
        while True:
            has_news = False
            try:
                for response in self._call:
                    event = self._resumption.new_part(decode.event(response))
                    if event is not None:
                        # That a request has started can be said of the next attempt too.
                        has_news = has_news or not isinstance(event, Started)
                        yield event
                return
            except grpc.RpcError as rpc_error:
                error = status.from_rpc_error(rpc_error)
            if has_news:
                if not self._resumption.is_possible:
                    raise error
                attempt = 0
            delay_s = self._policy.delay_s(error, attempt, self._deadline)
            if delay_s is None or self._closed.wait(delay_s):
                raise error
            attempt += 1
            self._call = self._start(self._deadline.remaining_s(), self._resumption.begin())
            if self._closed.is_set():
                self._call.cancel()
