"""The frame of a service's gRPC server: options, health, reflection, and an end without losses."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from google.rpc import error_details_pb2  # noqa: F401  (reflection then describes error details to peers)
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from tandem_service.access import TokenGate
from tandem_service.access_interceptor import AccessInterceptor
from tandem_service.interceptor import ErrorInterceptor
from tandem_service.listen_address import check_socket_is_free, is_local
from tandem_service.tls import PLAIN_TEXT, ListenerTls, listener_credentials

log = logging.getLogger("tandem")

_MAX_PENDING_CALLS = 65_536
_HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_HealthState = health_pb2.HealthCheckResponse


def options(max_message_bytes: int, *, shares_port: bool = False) -> list[tuple[str, int]]:
    """Channel arguments for a server.

    Args:
        max_message_bytes: The largest message taken and sent.
        shares_port: Whether other processes listen on the same port.
    """
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.so_reuseport", int(shares_port)),
        # gRPC cancels calls at random where more than these come at once, without a word of why; the
        # services refuse what is too much for them by a status.
        ("grpc.server.max_pending_requests", _MAX_PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _MAX_PENDING_CALLS),
        # Clients may ping every 10 s, also between calls, for as long as they like.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


class Health(health_pb2_grpc.HealthServicer):
    """The `grpc.health.v1` states of a server's services.

    grpcio-health-checking's own servicer keeps watches open, so that a server that is watched stops
    only when its whole grace time is over; here watches end with `end`.

    Attributes:
        address: Where the server listens, with the port that was chosen if none was asked for.
    """

    def __init__(self, services: Sequence[str]) -> None:
        """`services` are full names; the empty name stands for the server as a whole."""
        self.address = ""
        self._services = {"", *services}
        self._is_serving = False
        self._is_ending = False
        self._has_changed = asyncio.Event()

    async def set_serving(self, serving: bool) -> None:
        """Declares all services SERVING or NOT_SERVING."""
        self._is_serving = serving
        self._has_changed.set()
        self._has_changed = asyncio.Event()

    async def end(self) -> None:
        """Declares all services NOT_SERVING and ends the watches."""
        self._is_ending = True
        await self.set_serving(False)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> _HealthState:  # noqa: N802
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

    def _response(self, service: str) -> _HealthState:
        if service not in self._services:
            return _HealthState(status=_HealthState.SERVICE_UNKNOWN)
        return _HealthState(status=_HealthState.SERVING if self._is_serving else _HealthState.NOT_SERVING)


@contextlib.asynccontextmanager
async def running_server(
    listen: str,
    services: Sequence[str],
    register: Callable[[grpc.aio.Server], None],
    server_options: Sequence[tuple[str, int]],
    grace_s: float,
    *,
    tls: ListenerTls = PLAIN_TEXT,
    tokens: str = "",
) -> AsyncIterator[Health]:
    """A server that listens inside the context and afterwards ends its calls.

    Args:
        listen: `HOST:PORT` or `unix:PATH`.
        services: Full names of the services, for health and reflection.
        register: Adds the servicers to the server.
        server_options: See `options`.
        grace_s: Seconds that running calls get when the context ends; new ones are refused.
        tls: The listener's certificate.
        tokens: Whose tokens are let in; empty lets everybody in.

    Yields:
        The server's health, NOT_SERVING until it is set.

    Raises:
        ValueError: The address is taken or malformed, or a file of certificates or tokens cannot be used.
    """
    gates = [AccessInterceptor(TokenGate(tokens))] if tokens else []
    server = grpc.aio.server(interceptors=[*gates, ErrorInterceptor()], options=list(server_options))
    health_state = Health(services)
    health_pb2_grpc.add_HealthServicer_to_server(health_state, server)
    reflection.enable_server_reflection([*services, _HEALTH_SERVICE, reflection.SERVICE_NAME], server)
    register(server)
    port = _add_port(server, listen, tls)
    health_state.address = listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
    if tokens and not tls.cert and not is_local(listen):
        log.warning("listen=%r: tokens travel in plain text; set --tls-cert and --tls-key", listen)
    await server.start()
    try:
        yield health_state
    finally:
        await health_state.end()
        await server.stop(grace_s)


def _add_port(server: grpc.aio.Server, listen: str, tls: ListenerTls) -> int:
    """Makes the server listen; gives the port."""
    check_socket_is_free(listen)
    try:
        if tls.cert:
            return server.add_secure_port(listen, listener_credentials(tls))
        return server.add_insecure_port(listen)
    except RuntimeError:
        raise ValueError(f"listen={listen!r}: cannot listen there; is the address taken?") from None


async def wait_for_termination() -> None:
    """Returns at the first SIGTERM or SIGINT; the next one ends the process as if unhandled."""
    loop = asyncio.get_running_loop()
    terminated = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        log.info("%s: draining", number.name)
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        terminated.set()

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, on_signal, each)
    await terminated.wait()
