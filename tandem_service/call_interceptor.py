"""Counts calls, those too that end before their method begins."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import Any

import grpc
from prometheus_client import Counter

from tandem_service.health import PREFIX
from tandem_service.interceptor import behaviour_of, kind_of
from tandem_service.status import code_of_cancelled

_OTHER = "other"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Counts each call once, when it has ended. The outermost interceptor, so that it sees every refusal.

    Health is not counted: probes ask it day and night.
    """

    def __init__(self, calls: Counter, names: Mapping[str, str]) -> None:
        """`calls` is labelled by method and code; `names` are methods' by path, and others share a label."""
        self._calls = calls
        self._names = names
        self._watched: dict[str, tuple[Any, Any]] = {}  # handlers by path: as they came, and watched

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """See grpc.aio.ServerInterceptor."""
        path = handler_call_details.method
        if path.startswith(PREFIX):
            return await continuation(handler_call_details)
        call = _Call(self._calls, self._names.get(path, _OTHER))
        _current.set(call)
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(call.count)
        handler = await continuation(handler_call_details)
        if handler is None:
            call.code = grpc.StatusCode.UNIMPLEMENTED
            return None
        return self._watched_once(path, handler)

    def _watched_once(self, path: str, handler: Any) -> Any:
        """The same for the same handler, where its path has a name: of others clients can make up many."""
        known, watched = self._watched.get(path, (None, None))
        if handler is not known:
            watched = _watched(handler)
            if path in self._names:
                self._watched[path] = handler, watched
        return watched


class _Call:
    """One call, from its first step to its end."""

    def __init__(self, calls: Counter, method: str) -> None:
        # This stays where no method begins, because the request never came whole.
        self.code = grpc.StatusCode.CANCELLED
        self._calls = calls
        self._method = method

    def count(self, task: "asyncio.Task[Any]") -> None:
        """`task`, which ran the call, is done."""
        self._calls.labels(self._method, self.code.name).inc()


# A call's method runs in the task, and so in the context, of its interceptors.
_current: ContextVar[_Call] = ContextVar("tandem_call")


def _watched(handler: Any) -> Any:
    """A handler that does the same and leaves its status with the current call. No message costs more."""
    kind, run = kind_of(handler), behaviour_of(handler)

    async def watch(request: Any, context: Any) -> Any:
        code = grpc.StatusCode.UNKNOWN
        try:
            response = await run(request, context)
            code = grpc.StatusCode.OK
        except asyncio.CancelledError:
            code = code_of_cancelled(context.time_remaining())
            raise
        finally:
            _current.get().code = context.code() or code
        return response

    return handler._replace(**{kind: watch})
