"""Writes the figures of the benchmarks that are scripts of their own."""

from benchmarks.tandem_bench.record import write_result

__all__ = ["write_result"]
