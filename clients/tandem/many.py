"""The results of many requests on one stream, for threads."""

import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

import grpc

from tandem import status
from tandem.collect import Batch
from tandem.request import Request
from tandem.result import Result
from tandem.v1 import inference_pb2


class Results:
    """Results in the order in which requests end: an iterable, once, and a context manager.

    Leaving the loop over it, leaving the context and `close` cancel all requests that still run.
    """

    def __init__(
        self,
        requests: Iterable[str | Request],
        start: Callable[[Iterator[inference_pb2.GenerateManyRequest]], Any],
        max_running: int,
    ) -> None:
        """`start` makes the gRPC call; made by `Client.generate_many`."""
        if max_running < 1:
            raise ValueError(f"max_running={max_running}: must be at least 1")
        self._requests = requests
        self._batch = Batch()
        self._places = threading.Semaphore(max_running)
        self._closed = threading.Event()
        self._request_error: BaseException | None = None
        self._starting = threading.Lock()
        with self._starting:
            self._call = start(self._commands())

    def __iter__(self) -> Iterator[Result]:
        """Yields a result for each request as it ends.

        Raises:
            TandemError: The stream as a whole failed; results that were yielded stay valid.
        """
        try:
            for response in self._call:
                result = self._batch.take(response)
                if result is not None:
                    self._places.release()
                    yield result
            self._batch.check_complete()
        except grpc.RpcError as rpc_error:
            if self._request_error is not None:
                raise self._request_error from None
            raise status.from_rpc_error(rpc_error) from None
        finally:
            self.close()

    def close(self) -> None:
        """Cancels all requests that still run. May be called from any thread."""
        self._closed.set()
        self._places.release()
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

    def _commands(self) -> Iterator[inference_pb2.GenerateManyRequest]:
        """Runs in a thread of gRPC's, which hides exceptions: keeps the error for the reader."""
        try:
            for request in self._requests:
                self._places.acquire()
                if self._closed.is_set():
                    return
                yield self._batch.add(request)
        except Exception as error:
            self._request_error = error
            with self._starting:
                self._call.cancel()
