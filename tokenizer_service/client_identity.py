"""On whose behalf a call runs, for what clients share."""

from typing import Any
from urllib.parse import unquote

import grpc


def client_of(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    """The host that called: its connections are one client. Empty over a unix socket, which has no hosts."""
    kind, _, address = context.peer().partition(":")
    return "" if kind == "unix" else unquote(address.rpartition(":")[0]).strip("[]")
