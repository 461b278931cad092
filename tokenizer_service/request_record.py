"""One generation request, watched from its arrival to its end: metrics, a log line, a span."""

import asyncio
import logging
import time
from types import TracebackType
from typing import Self

from tandem_service.errors import ServiceError, UnavailableError
from tandem_service.life import has_stopped
from tandem_service.logs import fields
from tandem_service.status import STATUS_CODES, code_of_cancelled
from tandem_service.tracing import Span
from tokenizer_service.events import Delta, Event, Finished, Started
from tokenizer_service.metrics import TokenizerMetrics
from tokenizer_service.request import Origin

log = logging.getLogger("tandem.tokenizer")


class RequestRecord:
    """A context around a request; what it raises says how it ended.

    Attributes:
        traceparent: The W3C trace context for the engine's part; empty where there is none.
    """

    def __init__(
        self,
        metrics: TokenizerMetrics,
        method: str,
        origin: Origin,
        span: Span,
        deadline_s: float | None,
        *,
        logs: bool,
    ) -> None:
        """The request has just arrived; `deadline_s` is on the loop's clock."""
        self.traceparent = span.traceparent
        self._metrics = metrics
        self._method = method
        self._origin = origin
        self._span = span
        self._deadline_s = deadline_s
        self._logs = logs
        self._arrival_s = time.monotonic()
        self._first_s: float | None = None
        self._last_s: dict[int, float] = {}  # of each answer's newest delta
        self._num_sent = 0
        self._num_prompt = self._num_cached = 0
        self._queue_ms: float | None = None

    def add(self, event: Event) -> None:
        """An event is sent to the client."""
        if isinstance(event, Delta):
            self._add_delta(event)
        elif isinstance(event, Started):
            self._add_start(event)
        else:
            self._add_finish(event)

    def __enter__(self) -> Self:
        self._metrics.running.inc()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        metrics, outcome = self._metrics, self._outcome(error)
        duration_s = time.monotonic() - self._arrival_s
        metrics.running.dec()
        metrics.requests.labels(self._method, outcome).inc()
        metrics.request.observe(duration_s)
        told = {
            "prompt_tokens": self._num_prompt,
            "cached_tokens": self._num_cached,
            "completion_tokens": self._num_sent,
            "outcome": outcome,
        }
        self._span.end(**told)
        if self._logs:
            self._write_line(duration_s, told)

    def _add_delta(self, delta: Delta) -> None:
        # Nothing here is done for each token: a delta holds all that came since the one before it.
        now_s = time.monotonic()
        last_s = self._last_s.get(delta.index)
        if last_s is None:
            self._begin_answer(now_s)
        else:
            self._metrics.inter_token.observe(now_s - last_s)
        self._last_s[delta.index] = now_s
        self._count(delta.num_tokens)

    def _begin_answer(self, now_s: float) -> None:
        self._metrics.time_to_first_token.observe(now_s - self._arrival_s)
        if self._first_s is None:
            self._first_s = now_s
            self._span.add_event("first delta")

    def _add_start(self, start: Started) -> None:
        self._num_prompt += start.prompt_tokens
        self._num_cached += start.cached_tokens
        self._metrics.prompt_tokens.inc(start.prompt_tokens)
        self._metrics.cached_tokens.inc(start.cached_tokens)

    def _add_finish(self, finish: Finished) -> None:
        # Not the rest of the usage: a reader that resumed left out the tokens that it had.
        self._count(finish.num_textless)
        timings = finish.timings
        self._queue_ms = timings.queue_ms
        self._metrics.answers.labels(finish.reason.name.lower()).inc()
        self._metrics.queue.observe(timings.queue_ms / 1000)
        self._metrics.prefill.observe(timings.prefill_ms / 1000)
        self._metrics.decode.observe(timings.decode_ms / 1000)

    def _count(self, num_tokens: int) -> None:
        self._num_sent += num_tokens
        self._metrics.completion_tokens.inc(num_tokens)

    def _outcome(self, error: BaseException | None) -> str:
        """The name of the status that the client sees."""
        if error is None:
            return "OK"
        if isinstance(error, ServiceError):
            return STATUS_CODES[type(error)].name
        if not isinstance(error, asyncio.CancelledError):
            return "INTERNAL"
        if has_stopped():
            return STATUS_CODES[UnavailableError].name
        now_s = asyncio.get_running_loop().time()
        return code_of_cancelled(None if self._deadline_s is None else self._deadline_s - now_s).name

    def _write_line(self, duration_s: float, told: dict[str, object]) -> None:
        ttft_s = None if self._first_s is None else self._first_s - self._arrival_s
        times = {
            "queue_ms": self._queue_ms,
            "ttft_ms": None if ttft_s is None else round(ttft_s * 1000, 3),
            "duration_ms": round(duration_s * 1000, 3),
        }
        whose = {"request_id": self._origin.request_id, "client": self._origin.client or None}
        log.info("request ended", extra=fields(**whose, **told, **times))
