"""`tandem health`, and asking a service for its health by the standard protocol and without its package."""

import argparse
import contextlib
import enum
import sys
import time
from collections.abc import Callable

import grpc

from tandem.channel import ChannelOptions, open_channel
from tandem.cli.flags import Commands, add_connection_flags, credentials
from tandem.retry import limit_s

_METHOD = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"  # HealthCheckResponse with field 1, status, set to 1, SERVING.
_MAX_NAME_BYTES = 127  # A longer name's length would not fit the one byte that `_request` gives it.

_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 0.5


class State(enum.Enum):
    """What a service said."""

    SERVING = "serving"
    NOT_SERVING = "not serving"
    UNKNOWN = "unknown service"
    UNREACHABLE = "unreachable"


_STATES = {
    grpc.StatusCode.NOT_FOUND: State.UNKNOWN,
    grpc.StatusCode.UNAVAILABLE: State.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: State.UNREACHABLE,
}


def add_command(commands: Commands, default_target: str | None) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "health",
        help="ask a service whether it can serve",
        description="Asks a service for its health, by grpc.health.v1, and prints the answer. The exit "
        "status is 0 if it is serving and 1 otherwise, as probes of containers expect it.",
    )
    add_connection_flags(parser, default_target, timeout_s=2.0)
    parser.add_argument(
        "--service",
        default="",
        metavar="NAME",
        help="a service's full name, for example tandem.v1.Inference (default: the server as a whole)",
    )
    parser.add_argument(
        "--alive",
        action="store_true",
        help="succeed if the service answers at all, also while it cannot serve (default: only if serving)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    state = check(arguments.target, arguments.timeout, credentials(arguments), arguments.service)
    good = {State.SERVING, State.NOT_SERVING} if arguments.alive else {State.SERVING}
    print(f"{arguments.target}: {state.value}", file=sys.stdout if state in good else sys.stderr)
    return int(state not in good)


def check(
    target: str,
    timeout_s: float = 2.0,
    credentials: grpc.ChannelCredentials | None = None,
    service: str = "",
    options: ChannelOptions = (),
) -> State:
    """Asks once.

    Args:
        target: The server.
        timeout_s: How long the answer may take, in seconds.
        credentials: For TLS; None for plain text.
        service: A service's full name; empty for the server as a whole.
        options: Of the channel.

    Raises:
        ValueError: `service` is no service's name, since it is too long, or `timeout_s` is not a number.
    """
    request = _request(service)
    # A new channel each time: an old one would wait out its backoff before it connects again.
    with contextlib.closing(open_channel(target, credentials, options)) as channel:
        try:
            ask = channel.unary_unary(_METHOD, request_serializer=bytes, response_deserializer=bytes)
            answer = ask(request, timeout=limit_s("timeout", timeout_s))
        except grpc.RpcError as error:
            return _STATES.get(error.code(), State.NOT_SERVING)
    return State.SERVING if answer == _SERVING else State.NOT_SERVING


def wait_until_serving(
    target: str,
    timeout_s: float,
    check_alive: Callable[[], None],
    credentials: grpc.ChannelCredentials | None = None,
    options: ChannelOptions = (),
) -> None:
    """Asks until the service is SERVING, with growing pauses.

    Args:
        target: The service.
        timeout_s: How long to wait, in seconds.
        check_alive: Called before each pause; raises if there is nothing to wait for any more.
        credentials: For TLS; None for plain text.
        options: Of the channel.

    Raises:
        TimeoutError: It was not SERVING in time.
    """
    end_s = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while check(target, credentials=credentials, options=options) is not State.SERVING:
        check_alive()
        if time.monotonic() > end_s:
            raise TimeoutError(f"{target} did not become healthy within {timeout_s:g} s")
        time.sleep(pause_s)
        pause_s = min(_MAX_PAUSE_S, pause_s * 1.5)


def _request(service: str) -> bytes:
    """HealthCheckRequest with field 1, service."""
    name = service.encode()
    if len(name) > _MAX_NAME_BYTES:
        raise ValueError(f"service={service!r}: has {len(name)} bytes, at most {_MAX_NAME_BYTES}")
    return b"\x0a" + bytes([len(name)]) + name
