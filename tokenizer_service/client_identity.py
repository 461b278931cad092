"""On whose behalf a call runs, for what clients share."""

from typing import Any

import grpc


def client_of(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    """The host that called; its connections and ports are one client. `unix` for all of a unix socket."""
    kind, _, address = context.peer().partition(":")
    return kind if kind == "unix" else address.rpartition(":")[0]
