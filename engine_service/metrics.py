"""The engine's metrics. They live in the server process: the core only counts."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from engine_service.plan import Load
from tandem_service.metrics import GAP_BUCKETS, WAIT_BUCKETS, WHOLE_BUCKETS, add_build_info, calls_counter


class EngineMetrics:
    """What Prometheus can ask an engine service; docs/metrics.md lists it.

    Attributes:
        registry: All of them.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        add_build_info("engine", self.registry)
        self.calls = calls_counter("engine", self.registry)
        self._add_latencies()
        self._add_tokens()
        self._add_sequences()
        self._add_images()
        self._add_load()
        self._add_core()

    def follow(
        self, load: Callable[[], Load], num_sessions: Callable[[], int], is_up: Callable[[], bool]
    ) -> None:
        """Says what the gauges read, in the listener's thread."""
        self.running.set_function(lambda: load().num_running)
        self.waiting.set_function(lambda: load().num_waiting)
        self.waiting_tokens.set_function(lambda: load().num_waiting_tokens)
        self.blocks.set_function(lambda: load().num_blocks)
        self.free_blocks.set_function(lambda: load().num_free_blocks)
        self.sessions.set_function(num_sessions)
        self.up.set_function(is_up)

    def _add_latencies(self) -> None:
        self.step = self._histogram(
            "step_seconds",
            "One turn of the core's loop: the next step launched, the step before it read back.",
            GAP_BUCKETS,
        )
        self.queue = self._histogram(
            "queue_seconds", "From a sequence's arrival to its first step.", WAIT_BUCKETS
        )
        self.prefill = self._histogram(
            "prefill_seconds", "From a sequence's first step to its first token.", WAIT_BUCKETS
        )
        self.decode = self._histogram(
            "decode_seconds", "From a sequence's first token to its end.", WHOLE_BUCKETS
        )

    def _add_tokens(self) -> None:
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of sequences that got a token.")
        self.cached_tokens = self._counter("cached_tokens", "Those of them from the prefix cache.")
        self.prefill_tokens = self._counter(
            "prefill_tokens", "Tokens computed in prefills, those of preempted sequences again."
        )
        self.output_tokens = self._counter("output_tokens", "Tokens drawn for sequences.")

    def _add_sequences(self) -> None:
        self.sequences = self._counter(
            "sequences",
            "Sequences that ended, by reason; `ended` by their client, `lost` with the core.",
            "reason",
        )
        self.rejects = self._counter("rejects", "Sequences that were refused, by gRPC status.", "reason")
        self.preemptions = self._counter(
            "preemptions", "Times that a sequence lost its blocks to another, to be computed again."
        )

    def _add_images(self) -> None:
        self.images_received = self._counter("images_received", "Images that tokenizer services left.")
        self.images_cached = self._counter("images_cached", "Those of them that were there already.")
        self.images_computed = self._counter("images_computed", "Images run through the vision tower.")

    def _add_load(self) -> None:
        self.running = self._gauge("running_sequences", "Sequences that have computed state.")
        self.waiting = self._gauge("waiting_sequences", "Sequences that wait for a place.")
        self.waiting_tokens = self._gauge("waiting_tokens", "Prompt tokens of the sequences that wait.")
        self.blocks = self._gauge("kv_blocks", "Blocks of the KV cache.")
        self.free_blocks = self._gauge(
            "kv_free_blocks", "Blocks that a new sequence could take, known prefixes included."
        )
        self.sessions = self._gauge("sessions", "Connected tokenizer workers.")

    def _add_core(self) -> None:
        self.up = self._gauge("up", "1 while a core is ready, else 0.")
        self.heartbeat_age = self._gauge(
            "heartbeat_age_seconds", "Since the core was last heard of; it beats while it idles, too."
        )
        self.core_deaths = self._counter("core_deaths", "Times that the core ended and was to start again.")

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"tandem_engine_{name}", text, buckets=buckets, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"tandem_engine_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"tandem_engine_{name}", text, registry=self.registry)
