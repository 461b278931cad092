"""Watches generation requests: what of them becomes metrics, log lines and spans."""

import dataclasses

from tandem_service.observation import ObservationConfig
from tandem_service.tracing import open_tracer
from tokenizer_service.metrics import TokenizerMetrics
from tokenizer_service.request import Origin
from tokenizer_service.request_record import RequestRecord

# A longer id is refused, and is not to fill the log.
_MAX_ID_CHARS = 256


class Observer:
    """Makes the records of requests.

    Attributes:
        metrics: What is counted.
    """

    def __init__(self, config: ObservationConfig) -> None:
        """`config` says what is told and where.

        Raises:
            ValueError: Tracing is asked for and not installed.
        """
        self.metrics = TokenizerMetrics()
        self._tracer = open_tracer("tandem-tokenizer", config.trace_endpoint, config.trace_ratio)
        self._logs_requests = config.log_requests

    def request(self, method: str, origin: Origin, deadline_s: float | None) -> RequestRecord:
        """The record of a request that has just arrived.

        Args:
            method: The method's name, without its service.
            origin: Where it comes from, with the trace context that the client sent.
            deadline_s: When its call ends, on the loop's clock.
        """
        if len(origin.request_id) > _MAX_ID_CHARS:
            origin = dataclasses.replace(origin, request_id=origin.request_id[:_MAX_ID_CHARS])
        span = self._tracer.begin(method, origin.traceparent, request_id=origin.request_id)
        return RequestRecord(self.metrics, method, origin, span, deadline_s, logs=self._logs_requests)

    def connected(self, is_there: bool) -> None:
        """The engine has come or gone."""
        self.metrics.engine_connections.set(is_there)
        self.metrics.engine_connects.inc(is_there)

    def image(self, source: str) -> None:
        """A request's image is there; `source` says where from."""
        self.metrics.images.labels(source).inc()

    def close(self) -> None:
        """Sends the spans that are left."""
        self._tracer.close()
