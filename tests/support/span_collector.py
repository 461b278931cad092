"""An OpenTelemetry collector that keeps spans in memory."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class SpanCollector(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes what services export.

    Attributes:
        endpoint: Where it listens.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self._spans: list[tuple[str, Any]] = []
        self._lock = threading.Lock()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        with self._lock:
            for resource in request.resource_spans:
                service = attributes_of(resource.resource)["service.name"]
                for scope in resource.scope_spans:
                    self._spans += [(service, span) for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def spans(self, service: str) -> list[Any]:
        """The spans of a service so far."""
        with self._lock:
            return [span for name, span in self._spans if name == service]


def attributes_of(holder: Any) -> dict[str, Any]:
    """The attributes of a span, an event or a resource."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes}


@contextlib.contextmanager
def running_collector() -> Iterator[SpanCollector]:
    """A collector that listens on a port of its own."""
    collector = SpanCollector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield collector
    finally:
        server.stop(None)
