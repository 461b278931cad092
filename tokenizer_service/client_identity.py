"""On whose behalf a call runs, for what clients share."""

from typing import Any
from urllib.parse import unquote

import grpc

from tandem_service.access import client_name


def client_of(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    """The name of the caller's token; without tokens the host that called, whose connections are one
    client, and over a unix socket, which has no hosts, nobody.
    """
    if name := client_name():
        return name
    kind, _, address = context.peer().partition(":")
    return "" if kind == "unix" else unquote(address.rpartition(":")[0]).strip("[]")
