"""The device's ceilings, which every other workload's results carry too."""

from collections.abc import Iterator

from tandem_bench.bench import Bench
from tandem_bench.measurement import Measurement


def ceilings(bench: Bench) -> Iterator[Measurement]:
    """Bandwidths and the rate of a large matrix product."""
    found = bench.ceilings
    yield Measurement("ceiling-read", "TB/s", [found.read_bytes_per_s / 1e12], is_rate=True)
    yield Measurement("ceiling-copy", "TB/s", [found.copy_bytes_per_s / 1e12], is_rate=True)
    yield Measurement("ceiling-matmul", "TFLOP/s", [found.matmul_flop_per_s / 1e12], is_rate=True)
