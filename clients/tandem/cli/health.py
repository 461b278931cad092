"""Asking a service for its health, by the standard protocol and without its package."""

import contextlib
import enum
import time
from collections.abc import Callable

import grpc

from tandem.channel import open_channel

_METHOD = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"  # HealthCheckResponse with field 1, status, set to 1, SERVING.

_FIRST_PAUSE_S = 0.05
_MAX_PAUSE_S = 0.5


class State(enum.Enum):
    """What a service said."""

    SERVING = "serving"
    NOT_SERVING = "not serving"
    UNREACHABLE = "unreachable"


def check(target: str, timeout_s: float = 2.0, credentials: grpc.ChannelCredentials | None = None) -> State:
    """Asks once."""
    # A new channel each time: an old one would wait out its backoff before it connects again.
    with contextlib.closing(open_channel(target, credentials)) as channel:
        try:
            ask = channel.unary_unary(_METHOD, request_serializer=bytes, response_deserializer=bytes)
            answer = ask(b"", timeout=timeout_s)
        except grpc.RpcError as error:
            refused = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            return State.UNREACHABLE if error.code() in refused else State.NOT_SERVING
    return State.SERVING if answer == _SERVING else State.NOT_SERVING


def wait_until_serving(target: str, timeout_s: float, check_alive: Callable[[], None]) -> None:
    """Asks until the service is SERVING, with growing pauses.

    Args:
        target: The service.
        timeout_s: How long to wait, in seconds.
        check_alive: Called before each pause; raises if there is nothing to wait for any more.

    Raises:
        TimeoutError: It was not SERVING in time.
    """
    end_s = time.monotonic() + timeout_s
    pause_s = _FIRST_PAUSE_S
    while check(target) is not State.SERVING:
        check_alive()
        if time.monotonic() > end_s:
            raise TimeoutError(f"{target} did not become healthy within {timeout_s:g} s")
        time.sleep(pause_s)
        pause_s = min(_MAX_PAUSE_S, pause_s * 1.5)
