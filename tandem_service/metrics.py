"""What the metrics of both services share: bucket edges, the build, and the listener for Prometheus."""

import contextlib
import importlib.metadata
import logging
import threading
from collections.abc import Iterator

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge

from tandem_service.metrics_server import MetricsServer
from tandem_service.tls import ListenerTls

log = logging.getLogger("tandem")

WAIT_BUCKETS = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0,
    20.0, 30.0, 60.0,
)  # fmt: skip
"""Edges in seconds for what a client waits for once, such as its first token."""

GAP_BUCKETS = (
    0.0002, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1,
    0.2, 0.5, 1.0, 2.0, 5.0,
)  # fmt: skip
"""Edges in seconds for what recurs with every token: engine steps, and the gaps between deltas."""

WHOLE_BUCKETS = (
    0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0,
)  # fmt: skip
"""Edges in seconds for whole answers."""

# Each counter and histogram would bring a second series, which Prometheus takes for another metric.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


def add_build_info(service: str, registry: CollectorRegistry) -> None:
    """Adds the metric that names the version of a service."""
    gauge = Gauge(
        f"tandem_{service}_build_info",
        "The version of Tandem that runs, as a label; always 1.",
        ["version"],
        registry=registry,
        multiprocess_mode="livemax",
    )
    gauge.labels(_version()).set(1)


def calls_counter(service: str, registry: CollectorRegistry) -> Counter:
    """Adds the counter of a service's calls."""
    return Counter(
        f"tandem_{service}_calls",
        "Calls that ended, refused ones too, by method and gRPC status; health's are not counted.",
        ["method", "code"],
        registry=registry,
    )


@contextlib.contextmanager
def metrics_listener(listen: str, registry: CollectorRegistry, tls: ListenerTls) -> Iterator[None]:
    """Serves metrics inside the context: over HTTP, or HTTPS with a certificate.

    Args:
        listen: `HOST:PORT`; empty for no listener.
        registry: What is served, at every path.
        tls: The service's certificate, and whom it lets in.

    Raises:
        ValueError: The address is taken or malformed, or the certificate's files cannot be used.
    """
    if not listen:
        yield
        return
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"metrics_listen={listen!r}: must be HOST:PORT")
    try:
        server = MetricsServer(host.strip("[]"), int(port), registry, tls)
    except (OSError, OverflowError) as error:
        raise ValueError(f"metrics_listen={listen!r}: cannot listen there: {error}") from None
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    log.info("metrics on %s://%s:%d/metrics", "https" if tls.cert else "http", host, server.server_port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _version() -> str:
    try:
        return importlib.metadata.version("tandem-llm")
    except importlib.metadata.PackageNotFoundError:  # runs from a source tree
        return "unknown"
