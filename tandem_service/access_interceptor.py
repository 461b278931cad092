"""Calls that show no valid token end before their method begins."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from tandem_service.access import TokenGate
from tandem_service.errors import UnauthenticatedError
from tandem_service.health import PREFIX
from tandem_service.status import abort


class AccessInterceptor(grpc.aio.ServerInterceptor):
    """Asks for a token once a call, however many messages it has."""

    def __init__(self, gate: TokenGate) -> None:
        self._gate = gate

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """See grpc.aio.ServerInterceptor."""
        # An orchestrator's probes have no token.
        if not handler_call_details.method.startswith(PREFIX):
            try:
                self._gate.admit(handler_call_details.invocation_metadata or ())
            except UnauthenticatedError as error:
                return _refusal(error)
        return await continuation(handler_call_details)


def _refusal(error: UnauthenticatedError) -> Any:
    """A handler for calls of any shape: it ends them without reading a message."""

    async def refuse(requests: AsyncIterator[bytes], context: Any) -> None:
        await abort(context, error)

    return grpc.stream_stream_rpc_method_handler(refuse)
