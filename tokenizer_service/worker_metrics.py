"""The metrics of several workers as one service's, served by their parent."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from tandem_service.metrics import metrics_listener
from tandem_service.tls import ListenerTls

_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client keeps a process's values for others to read


class WorkerMetrics:
    """Adds up what workers count, with what their parent knows of them."""

    def __init__(self, directory: str) -> None:
        """Workers write to `directory`; with an empty name they keep their metrics to themselves."""
        self._directory = directory
        self.registry = CollectorRegistry()
        self.workers = Gauge("tandem_tokenizer_workers", "Worker processes.", registry=self.registry)
        self.deaths = Counter(
            "tandem_tokenizer_worker_deaths",
            "Times that a worker ended on its own.",
            registry=self.registry,
        )
        if directory:
            _Files(self.registry, directory)  # type: ignore[no-untyped-call]

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment of a worker."""
        return {**os.environ, _DIRECTORY: self._directory} if self._directory else os.environ

    def started(self) -> None:
        """A worker has started."""
        self.workers.inc()

    def ended(self, pid: int, *, is_death: bool) -> None:
        """A worker has ended: what it counted stays, what it held is gone."""
        self.workers.dec()
        self.deaths.inc(is_death)
        if self._directory:
            mark_process_dead(pid, self._directory)  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def worker_metrics(listen: str, tls: ListenerTls) -> Iterator[WorkerMetrics]:
    """Serves the workers' metrics inside the context.

    Args:
        listen: See `metrics_listener`.
        tls: Likewise.

    Raises:
        ValueError: The address is taken or malformed, or the certificate's files cannot be used.
    """
    if not listen:
        yield WorkerMetrics("")
        return
    with tempfile.TemporaryDirectory(prefix="tandem-metrics-") as directory:
        metrics = WorkerMetrics(directory)
        with metrics_listener(listen, metrics.registry, tls):
            yield metrics


class _Files(MultiProcessCollector):
    """What stands in the workers' files, but for those that a worker has only just created."""

    def collect(self) -> Iterable[Metric]:
        files = [str(file) for file in Path(self._path).glob("*.db") if _is_written(file)]
        merged: Iterable[Metric] = self.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
        return merged


def _is_written(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except FileNotFoundError:  # its worker has ended
        return False
