"""The metrics of several workers, read from the files that they write."""

from prometheus_client import generate_latest

from tokenizer_service.worker_metrics import WorkerMetrics


def test_a_file_that_a_worker_has_only_just_created_counts_for_nothing(tmp_path):
    metrics = WorkerMetrics(str(tmp_path))
    metrics.started()
    before = generate_latest(metrics.registry)
    assert b"tandem_tokenizer_workers 1.0" in before
    (tmp_path / "counter_4711.db").touch()
    assert generate_latest(metrics.registry) == before
