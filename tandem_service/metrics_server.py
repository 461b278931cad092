"""The HTTP server of metrics: with TLS where the service has a certificate."""

import logging
import socket
import socketserver
import sys
import wsgiref.simple_server
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry

from tandem_service.tls import ListenerTls, listener_contexts

log = logging.getLogger("tandem")

# Of a peer that says nothing or reads nothing; a page of metrics takes milliseconds.
_TIMEOUT_S = 10.0


class MetricsServer(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """Serves a registry at every path, each connection in a thread of its own."""

    daemon_threads = True

    def __init__(self, host: str, port: int, registry: CollectorRegistry, tls: ListenerTls) -> None:
        """Listens; `serve_forever` answers.

        Raises:
            OSError, OverflowError: The address cannot be listened on.
            ValueError: The certificate's files cannot be used.
        """
        self._context = listener_contexts(tls) if tls.cert else None
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, *_, address = found[0]
        super().__init__((str(address[0]), port), _Handler)
        self.set_app(prometheus_client.make_wsgi_app(registry))

    def get_request(self) -> tuple[Any, Any]:
        """A new connection."""
        connection, peer = super().get_request()
        connection.settimeout(_TIMEOUT_S)
        if self._context is not None:
            # The first read shakes hands, in the connection's thread: here, a silent peer would keep out
            # all others.
            connection = self._context().wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, peer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Peers leave, are late, or show no certificate: that is theirs, and no traceback of ours."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            log.debug("metrics for %s: %s", client_address, error)
        else:
            super().handle_error(request, client_address)


class _Handler(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing of each look at the metrics."""
