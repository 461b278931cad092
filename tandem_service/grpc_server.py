"""The frame of a service's gRPC server: options, health, reflection, and an end without losses."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

import grpc
from google.protobuf import descriptor_pool
from google.rpc import error_details_pb2  # noqa: F401  (reflection then describes error details to peers)
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import Counter

from tandem_service import health
from tandem_service.access import TokenGate
from tandem_service.access_interceptor import AccessInterceptor
from tandem_service.call_interceptor import CallInterceptor
from tandem_service.interceptor import ErrorInterceptor
from tandem_service.life import Life, State
from tandem_service.listen_address import check_socket_is_free, is_local
from tandem_service.server_config import ServerConfig
from tandem_service.tls import ListenerTls, listener_credentials

log = logging.getLogger("tandem")

# For statuses that are on their way when the server stops.
_FLUSH_S = 1.0
_MAX_PENDING_CALLS = 65_536


def options(
    config: ServerConfig, max_message_bytes: int, *, shares_port: bool = False
) -> list[tuple[str, int]]:
    """Channel arguments for a server. gRPC ignores keys that it does not know.

    Args:
        config: What a connection may do.
        max_message_bytes: The largest message taken.
        shares_port: Whether other processes listen on the same port.
    """
    found = {
        "grpc.max_receive_message_length": max_message_bytes,
        # An answer may be larger than any request: a long prompt that comes back with log-probabilities.
        # Where one were too large, it would end a stream of many requests for all of them.
        "grpc.max_send_message_length": -1,
        "grpc.so_reuseport": int(shares_port),
        "grpc.max_concurrent_streams": config.max_streams,
        # gRPC cancels calls at random where more than these come at once, without a word of why; the
        # services refuse what is too much for them by a status.
        "grpc.server.max_pending_requests": _MAX_PENDING_CALLS,
        "grpc.server.max_pending_requests_hard_limit": _MAX_PENDING_CALLS,
        # A peer that vanished, or stopped, is noticed also while no call runs.
        "grpc.keepalive_time_ms": _ms(config.keepalive_s),
        "grpc.keepalive_timeout_ms": _ms(config.keepalive_timeout_s),
        # The wait for an answer to a ping is a minute otherwise, whatever the keepalive's timeout is.
        "grpc.http2.ping_timeout_ms": _ms(config.keepalive_timeout_s),
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
        # Clients may ping every 10 s, also between calls, for as long as they like.
        "grpc.http2.min_ping_interval_without_data_ms": 10_000,
        "grpc.http2.max_ping_strikes": 0,
    }
    if config.max_connection_idle_s:
        found["grpc.max_connection_idle_ms"] = _ms(config.max_connection_idle_s)
    if config.max_connection_age_s:
        found["grpc.max_connection_age_ms"] = _ms(config.max_connection_age_s)
        found["grpc.max_connection_age_grace_ms"] = _ms(config.max_connection_age_grace_s)
    return list(found.items())


class Server:
    """A server that listens.

    Attributes:
        address: Where, with the port that was chosen if none was asked for.
        health: NOT_SERVING until it is set ready, and from the first step towards the end.
        life: Where the server stands; ended by its owner.
    """

    def __init__(self, services: Sequence[str]) -> None:
        """`services` are full names."""
        self.address = ""
        self.health = health.Health(services)
        self.life = Life(self._on_change)

    def _on_change(self, state: State) -> None:
        if state is State.LAME_DUCK:
            self.health.retire()


@contextlib.asynccontextmanager
async def running_server(
    config: ServerConfig,
    listen: str,
    services: Sequence[str],
    register: Callable[[grpc.aio.Server], None],
    server_options: Sequence[tuple[str, int]],
    calls: Counter | None = None,
) -> AsyncIterator[Server]:
    """A server that listens inside the context. What runs when the context ends is cut.

    Args:
        config: Whom the server lets in.
        listen: `HOST:PORT` or `unix:PATH`.
        services: Full names of the services, for health and reflection.
        register: Adds the servicers to the server.
        server_options: See `options`.
        calls: Counts calls that ended, by `method` and `code`.

    Raises:
        ValueError: The address is taken or malformed, or a file of certificates or tokens cannot be used.
    """
    found = Server(services)
    interceptors = _interceptors(config, services, found.life, calls)
    server = grpc.aio.server(interceptors=interceptors, options=list(server_options))
    health_pb2_grpc.add_HealthServicer_to_server(found.health, server)
    reflection.enable_server_reflection([*services, health.SERVICE, reflection.SERVICE_NAME], server)
    register(server)
    port = _add_port(server, listen, config.tls)
    found.address = listen if listen.startswith("unix:") else f"{listen.rpartition(':')[0]}:{port}"
    if config.tokens and not config.tls_cert and not is_local(listen):
        log.warning("listen=%r: tokens travel in plain text; set --tls-cert and --tls-key", listen)
    await server.start()
    try:
        yield found
    finally:
        found.health.end()
        await server.stop(_FLUSH_S)


def _interceptors(
    config: ServerConfig, services: Sequence[str], life: Life, calls: Counter | None
) -> list[grpc.aio.ServerInterceptor]:
    """In the order in which calls meet them."""
    counts = [] if calls is None else [CallInterceptor(calls, _method_names(services))]
    gates = [AccessInterceptor(TokenGate(config.tokens))] if config.tokens else []
    return [*counts, *gates, ErrorInterceptor(life)]


def _method_names(services: Sequence[str]) -> dict[str, str]:
    """The names of the services' methods, by the paths of their calls."""
    pool = descriptor_pool.Default()
    return {
        f"/{service}/{method.name}": method.name
        for service in services
        for method in pool.FindServiceByName(service).methods
    }


def _add_port(server: grpc.aio.Server, listen: str, tls: ListenerTls) -> int:
    """Makes the server listen; gives the port."""
    check_socket_is_free(listen)
    try:
        if tls.cert:
            return server.add_secure_port(listen, listener_credentials(tls))
        return server.add_insecure_port(listen)
    except RuntimeError:
        raise ValueError(f"listen={listen!r}: cannot listen there; is the address taken?") from None


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
