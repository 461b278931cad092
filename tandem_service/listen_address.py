"""Addresses that a service listens on."""

import ipaddress
import socket

_UNIX = "unix:"
_CONNECT_TIMEOUT_S = 1.0


def is_local(listen: str) -> bool:
    """Whether nobody on another machine can reach the address."""
    if listen.startswith(_UNIX):
        return True
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_socket_is_free(listen: str) -> None:
    """Refuses a unix socket on which something listens: gRPC would remove its file and take its place.

    The file that a killed service left behind is in nobody's way.

    Args:
        listen: `unix:PATH`; any other address is gRPC's own affair.

    Raises:
        ValueError: Something listens there.
    """
    if not listen.startswith(_UNIX):
        return
    path = listen.removeprefix(_UNIX).removeprefix("//")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_CONNECT_TIMEOUT_S)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as error:
            raise ValueError(f"listen={listen!r}: {error.strerror or error}") from None
    raise ValueError(f"listen={listen!r}: something listens there already")
