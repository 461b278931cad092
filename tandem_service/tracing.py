"""Spans of requests across both services, by OpenTelemetry where it is asked for."""

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
# A collector that is not there holds up the end of the process for so long.
_EXPORT_TIMEOUT_S = 2


class Span:
    """A span that has begun, or the trace context that passes through where nothing is traced.

    Attributes:
        traceparent: The W3C trace context for what happens inside; empty where there is none.
    """

    def __init__(self, traceparent: str, span: Any = None) -> None:
        """`span` is OpenTelemetry's, or None."""
        self.traceparent = traceparent
        self._span = span

    @property
    def is_recording(self) -> bool:
        """Whether anybody will see what is added."""
        return self._span is not None and bool(self._span.is_recording())

    def add_event(self, name: str, **attributes: Any) -> None:
        """Something happened now."""
        if self.is_recording:
            self._span.add_event(name, attributes)

    def end(self, **attributes: Any) -> None:
        """Ends the span."""
        if self._span is not None:
            self._span.set_attributes(attributes)
            self._span.end()


class Tracer:
    """Begins a service's spans."""

    def __init__(self, provider: "TracerProvider | None" = None) -> None:
        """Without a provider nothing is recorded, and nothing of OpenTelemetry is needed."""
        self._provider = provider
        self._tracer = provider.get_tracer("tandem") if provider else None

    def begin(self, name: str, traceparent: str, **attributes: Any) -> Span:
        """A new span.

        Args:
            name: What it spans.
            traceparent: The W3C trace context that it belongs to; one that is malformed is ignored.
            attributes: What is known of it.
        """
        parent = traceparent if _TRACEPARENT.fullmatch(traceparent) else ""
        if self._tracer is None:
            return Span(parent)
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        propagator = TraceContextTextMapPropagator()
        context = propagator.extract({"traceparent": parent})
        span = self._tracer.start_span(name, context, attributes=attributes)
        carrier: dict[str, str] = {}
        propagator.inject(carrier, _context_of(span))
        return Span(carrier["traceparent"], span)

    def close(self) -> None:
        """Sends what is left."""
        if self._provider is not None:
            self._provider.shutdown()


def open_tracer(service: str, endpoint: str, ratio: float) -> Tracer:
    """A tracer that sends its spans away in the background.

    Args:
        service: Whose spans they are.
        endpoint: The OTLP collector's gRPC address, as a URL; empty for no tracing.
        ratio: Share of the traces that begin here; those of a client follow the client's choice.

    Raises:
        ValueError: The packages for tracing are not installed.
    """
    if not endpoint:
        return Tracer()
    try:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ImportError:
        raise ValueError(
            f"trace_endpoint={endpoint!r}: tracing is not installed: pip install 'tandem-llm[tracing]'"
        ) from None
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(ratio), resource=Resource.create({SERVICE_NAME: service})
    )
    exporter = OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracer(provider)


def _context_of(span: Any) -> Any:
    from opentelemetry.trace import set_span_in_context

    return set_span_in_context(span)
