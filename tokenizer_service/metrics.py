"""The tokenizer service's metrics. With several workers each counts for itself, and their parent adds up."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from tandem_service.metrics import GAP_BUCKETS, WAIT_BUCKETS, WHOLE_BUCKETS, add_build_info, calls_counter


class TokenizerMetrics:
    """What Prometheus can ask a tokenizer service; docs/metrics.md lists it.

    Attributes:
        registry: All of them.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        add_build_info("tokenizer", self.registry)
        self.calls = calls_counter("tokenizer", self.registry)
        self._add_latencies()
        self._add_tokens()
        self._add_requests()
        self._add_engine()

    def _add_latencies(self) -> None:
        self.time_to_first_token = self._histogram(
            "time_to_first_token_seconds",
            "From a request's arrival to the first delta of an answer.",
            WAIT_BUCKETS,
        )
        self.inter_token = self._histogram(
            "inter_token_seconds",
            "From one delta of an answer to the next; deltas of a slow reader hold several tokens.",
            GAP_BUCKETS,
        )
        self.queue = self._histogram(
            "queue_seconds", "Wait in the engine's queue of an answer.", WAIT_BUCKETS
        )
        self.prefill = self._histogram(
            "prefill_seconds", "From an answer's first step to its first token.", WAIT_BUCKETS
        )
        self.decode = self._histogram(
            "decode_seconds", "From an answer's first token to its last.", WHOLE_BUCKETS
        )
        self.request = self._histogram(
            "request_seconds", "From a request's arrival to its end, however it ended.", WHOLE_BUCKETS
        )

    def _add_tokens(self) -> None:
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens, once for each answer.")
        self.cached_tokens = self._counter("cached_tokens", "Those of them from the engine's prefix cache.")
        self.completion_tokens = self._counter("completion_tokens", "Tokens of answers sent to clients.")

    def _add_requests(self) -> None:
        self.requests = self._counter(
            "requests", "Generation requests that ended, by method and gRPC status.", "method", "outcome"
        )
        self.answers = self._counter("answers", "Answers that came to their end, by reason.", "reason")
        self.running = self._gauge("running_requests", "Generation requests that have not ended.")
        self.images = self._counter(
            "images", "Images of requests, by where their pixels came from: `decoded` or `cached`.", "source"
        )

    def _add_engine(self) -> None:
        self.engine_connections = self._gauge("engine_connections", "Workers that have their engine.")
        self.engine_connects = self._counter("engine_connects", "Times that a worker reached its engine.")

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"tandem_tokenizer_{name}", text, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"tandem_tokenizer_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"tandem_tokenizer_{name}", text, registry=self.registry, multiprocess_mode="livesum")
