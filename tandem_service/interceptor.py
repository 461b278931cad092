"""The one place where an exception becomes a status."""

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from tandem_service.errors import InternalError, InvalidRequestError, ServiceError
from tandem_service.life import Life
from tandem_service.status import abort
from tandem_service.wire import parser

log = logging.getLogger("tandem")


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns errors of Tandem's own methods into statuses; faults are logged and become INTERNAL."""

    def __init__(self, life: Life) -> None:
        """`life` refuses and ends calls when the service ends."""
        self._life = life
        self._guarded: dict[str, Any] = {}  # handlers by the paths of their methods

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """See grpc.aio.ServerInterceptor."""
        path = handler_call_details.method
        if path in self._guarded:
            return self._guarded[path]
        handler = await continuation(handler_call_details)
        if handler is None or not path.startswith("/tandem."):
            return handler
        return self._guarded.setdefault(path, _guarded(handler, path, self._life))


async def failure_of(work: Awaitable[None], method: str) -> ServiceError | None:
    """Awaits one of many requests of a stream that goes on without it; what it failed with, or None."""
    try:
        await work
    except Exception as error:
        return _as_service_error(error, method)
    return None


def kind_of(handler: Any) -> str:
    """The name of the handler's field that holds its method."""
    request, response = (
        "stream" if flag else "unary" for flag in (handler.request_streaming, handler.response_streaming)
    )
    return f"{request}_{response}"


def behaviour_of(handler: Any) -> Callable[[Any, Any], Awaitable[Any]]:
    """The handler's method as a coroutine, which writes where the method is a generator.

    What goes on around it sees then also what happens to a write. Nothing is added for each message.
    """
    behaviour: Callable[..., Any] = getattr(handler, kind_of(handler))
    if not inspect.isasyncgenfunction(behaviour):
        return behaviour

    async def write_all(request: Any, context: Any) -> None:
        async for response in behaviour(request, context):
            await context.write(response)

    return write_all


def _guarded(handler: Any, method: str, life: Life) -> Any:
    kind, run = kind_of(handler), behaviour_of(handler)

    async def guarded(request: Any, context: Any) -> Any:
        try:
            with life.call():
                return await run(_checked(request), context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            await abort(context, _as_service_error(error, method))

    message_type = handler.request_deserializer.__self__
    return handler._replace(**{kind: guarded, "request_deserializer": parser(message_type)})


def _checked(request: Any) -> Any:
    """The request, or the stream of requests, that raises where one could not be parsed."""
    if isinstance(request, InvalidRequestError):
        raise request
    return _checked_stream(request) if hasattr(request, "__aiter__") else request


async def _checked_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        if isinstance(request, InvalidRequestError):
            raise request
        yield request


def _as_service_error(error: Exception, method: str) -> ServiceError:
    if isinstance(error, ServiceError):
        return error
    log.exception("%s failed", method, exc_info=error)
    return InternalError(f"{type(error).__name__} in {method}; the service's log has more")
