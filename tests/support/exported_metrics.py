"""The metrics that the services' code declares."""

from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from engine_service.metrics import EngineMetrics
from tokenizer_service.metrics import TokenizerMetrics
from tokenizer_service.worker_metrics import WorkerMetrics

_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def declared() -> Iterator[Metric]:
    """Every metric of both services, the tokenizer service's first."""
    for metrics in (TokenizerMetrics(), WorkerMetrics(""), EngineMetrics()):
        for collector in dict.fromkeys(metrics.registry._names_to_collectors.values()):
            yield from collector.describe()


def shown_name(metric: Metric) -> str:
    """The name as Prometheus shows it."""
    return metric.name + ("_total" if metric.type == "counter" else "")


def sample_names() -> set[str]:
    """The names of all samples that a query can ask for."""
    return {metric.name + suffix for metric in declared() for suffix in _SUFFIXES[metric.type]}
