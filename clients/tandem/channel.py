"""From a target to a channel with the options that a service behind it expects."""

import re
from collections.abc import Sequence

import grpc

DEFAULT_TARGET = "127.0.0.1:50051"
MAX_MESSAGE_BYTES = 64 * 2**20

_SCHEME = re.compile(r"(dns|ipv4|ipv6|unix|unix-abstract|vsock|xds):")
_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^\s:/]+):\d{1,5}")

ChannelOptions = Sequence[tuple[str, int | str]]

_OPTIONS: ChannelOptions = (
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A peer that vanished is noticed after 30 s, also while no call runs. The services take pings
    # every 10 s. Without its own bound a ping waits a minute, whatever the keepalive's is.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC waits a second after a refused connection; a retry should find a service that just came up.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Otherwise gRPC reads http_proxy, also for loopback addresses.
    ("grpc.enable_http_proxy", 0),
)


def resolve(target: str) -> str:
    """The gRPC name of a target: `HOST:PORT` is resolved by DNS, to all of its addresses.

    Raises:
        ValueError: The target is none of `HOST:PORT`, `unix:PATH` and a gRPC name with its scheme.
    """
    if _SCHEME.match(target):
        return target
    if not _HOST_PORT.fullmatch(target):
        raise ValueError(f"target={target!r}: must be HOST:PORT or unix:PATH")
    return f"dns:///{target}"


def open_channel(
    target: str, credentials: grpc.ChannelCredentials | None = None, options: ChannelOptions = ()
) -> grpc.Channel:
    """A channel for threads; see `Client` for the arguments."""
    merged = merge(options)
    if credentials is None:
        return grpc.insecure_channel(resolve(target), options=merged)
    return grpc.secure_channel(resolve(target), credentials, options=merged)


def open_async_channel(
    target: str, credentials: grpc.ChannelCredentials | None = None, options: ChannelOptions = ()
) -> grpc.aio.Channel:
    """A channel for the running event loop; see `AsyncClient` for the arguments."""
    merged = merge(options)
    if credentials is None:
        return grpc.aio.insecure_channel(resolve(target), options=merged)
    return grpc.aio.secure_channel(resolve(target), credentials, options=merged)


def merge(options: ChannelOptions) -> list[tuple[str, int | str]]:
    """The default options, replaced by those given under the same key."""
    return list(dict([*_OPTIONS, *options]).items())
