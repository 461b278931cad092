"""`grpc.health.v1` of a server."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
PREFIX = f"/{SERVICE}/"
"""What the paths of its methods begin with."""

_State = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """The states of a server's services.

    grpcio-health-checking's own servicer keeps watches open, so that a server that is watched stops
    only when its whole grace time is over; here watches end with `end`.
    """

    def __init__(self, services: Sequence[str]) -> None:
        """`services` are full names; the empty name stands for the server as a whole."""
        self._services = {"", *services}
        self._is_ready = False
        self._is_retired = False
        self._is_ending = False
        self._has_changed = asyncio.Event()

    def set_ready(self, is_ready: bool) -> None:
        """Declares all services SERVING, unless they are retired, or NOT_SERVING."""
        self._is_ready = is_ready
        self._announce()

    def retire(self) -> None:
        """Declares all services NOT_SERVING for good."""
        self._is_retired = True
        self._announce()

    def end(self) -> None:
        """Ends the watches, with NOT_SERVING."""
        self._is_ending = True
        self.retire()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> _State:  # noqa: N802
        """See health.proto."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"service: {request.service!r} is not served")
        return self._response(request.service)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:  # noqa: N802
        """See health.proto."""
        last = None
        while True:
            response = self._response(request.service)
            if response != last:
                await context.write(response)
                last = response
            elif self._is_ending:
                return
            else:
                await self._has_changed.wait()

    def _announce(self) -> None:
        self._has_changed.set()
        self._has_changed = asyncio.Event()

    def _response(self, service: str) -> _State:
        if service not in self._services:
            return _State(status=_State.SERVICE_UNKNOWN)
        is_serving = self._is_ready and not self._is_retired
        return _State(status=_State.SERVING if is_serving else _State.NOT_SERVING)
