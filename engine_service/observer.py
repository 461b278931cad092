"""Watches the engine's sequences from the server process: metrics, log lines and spans."""

import logging
import time
from collections import Counter
from dataclasses import dataclass

from engine_service.config import EngineConfig
from engine_service.core_messages import StepRecord
from engine_service.metrics import EngineMetrics
from engine_service.plan import Counts, Started, StepColumns
from engine_service.sequence import SequenceKey, SequenceSpec
from tandem_service.errors import ServiceError
from tandem_service.logs import fields
from tandem_service.status import STATUS_CODES
from tandem_service.tracing import Span, open_tracer

log = logging.getLogger("tandem.engine")


@dataclass(slots=True)
class _Watched:
    """A sequence that has not ended."""

    spec: SequenceSpec
    span: Span
    start: Started | None = None
    first_token_s: float = 0.0
    num_output: int = 0


class Observer:
    """Is told what happens to sequences.

    Attributes:
        metrics: What it counts.
    """

    def __init__(self, config: EngineConfig) -> None:
        """`config` says what is told and where.

        Raises:
            ValueError: Tracing is asked for and not installed.
        """
        self.metrics = EngineMetrics()
        self._tracer = open_tracer("tandem-engine", config.trace_endpoint, config.trace_ratio)
        self._logs_sequences = config.log_requests
        self._counts_tokens = bool(config.log_requests or config.trace_endpoint)
        self._watched: dict[SequenceKey, _Watched] = {}
        self._counts = Counts()
        self._heard_s = time.monotonic()
        self.metrics.heartbeat_age.set_function(lambda: time.monotonic() - self._heard_s)

    def close(self) -> None:
        """Sends the spans that are left."""
        self._tracer.close()

    def submitted(self, key: SequenceKey, spec: SequenceSpec) -> None:
        """The core was told to run a sequence."""
        span = self._tracer.begin("sequence", spec.traceparent, request_id=spec.request_id)
        span.add_event("queued")
        self._watched[key] = _Watched(spec, span)

    def rejected(self, request_id: str, error: ServiceError) -> None:
        """A sequence was refused."""
        reason = STATUS_CODES[type(error)].name
        self.metrics.rejects.labels(reason).inc()
        if self._logs_sequences:
            told = fields(request_id=request_id, outcome=reason, error=error.message)
            log.info("sequence refused", extra=told)

    def ended(self, key: SequenceKey) -> None:
        """The client ended a sequence: it was cancelled, or has reached a stop string."""
        self._end(key, "ended")

    def ready(self) -> None:
        """A core is there, and counts from 0."""
        self._heard_s = time.monotonic()
        self._counts = Counts()

    def died(self) -> None:
        """The core is gone, and with it what ran."""
        self.metrics.core_deaths.inc()
        for key in list(self._watched):
            self._end(key, "lost")

    def stepped(self, record: StepRecord) -> None:
        """Steps were done, or the core only beat."""
        self._heard_s = time.monotonic()
        if record.telemetry is not None:
            for seconds in record.telemetry.step_seconds:
                self.metrics.step.observe(seconds)
            self._count(record.telemetry.counts)
        for session, columns in record.columns.items():
            self._take_columns(session, columns)

    def _count(self, counts: Counts) -> None:
        last, self._counts = self._counts, counts
        if counts == last:
            return
        metrics = self.metrics
        metrics.prompt_tokens.inc(counts.num_prompt_tokens - last.num_prompt_tokens)
        metrics.cached_tokens.inc(counts.num_cached_tokens - last.num_cached_tokens)
        metrics.prefill_tokens.inc(counts.num_prefill_tokens - last.num_prefill_tokens)
        metrics.preemptions.inc(counts.num_preemptions - last.num_preemptions)
        metrics.images_computed.inc(counts.num_images - last.num_images)

    def _take_columns(self, session: int, columns: StepColumns) -> None:
        self.metrics.output_tokens.inc(len(columns.tokens))
        if self._counts_tokens:
            for number, count in Counter(columns.sequences).items():
                if watched := self._watched.get((session, number)):
                    watched.num_output += count
        for each in columns.started:
            self._start((session, each.sequence), each)
        for number, reason in columns.finished:
            self._end((session, number), reason.name.lower())

    def _start(self, key: SequenceKey, start: Started) -> None:
        self.metrics.queue.observe(start.queue_us / 1e6)
        self.metrics.prefill.observe(start.prefill_us / 1e6)
        if watched := self._watched.get(key):
            watched.start, watched.first_token_s = start, time.monotonic()
            watched.span.add_event("first token", cached_tokens=start.num_cached)

    def _end(self, key: SequenceKey, reason: str) -> None:
        watched = self._watched.pop(key, None)
        if watched is None:
            return  # ended by its client before
        self.metrics.sequences.labels(reason).inc()
        if watched.start is not None:
            self.metrics.decode.observe(time.monotonic() - watched.first_token_s)
        watched.span.add_event("finished")
        watched.span.end(
            reason=reason,
            prompt_tokens=len(watched.spec.token_ids),
            cached_tokens=watched.start.num_cached if watched.start else 0,
            output_tokens=watched.num_output,
        )
        if self._logs_sequences:
            _log_end(watched, reason)


def _log_end(watched: _Watched, reason: str) -> None:
    start = watched.start
    told = fields(
        request_id=watched.spec.request_id or None,
        prompt_tokens=len(watched.spec.token_ids),
        cached_tokens=start.num_cached if start else None,
        output_tokens=watched.num_output,
        queue_ms=start.queue_us / 1000 if start else None,
        prefill_ms=start.prefill_us / 1000 if start else None,
        decode_ms=round((time.monotonic() - watched.first_token_s) * 1000, 3) if start else None,
        reason=reason,
    )
    log.info("sequence ended", extra=told)
