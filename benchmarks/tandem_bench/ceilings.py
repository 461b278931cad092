"""What the device can do at most, measured in the run whose figures are held against it."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from tandem_bench.timing import seconds

REPLAYS = 10


@dataclass(frozen=True)
class Ceilings:
    """Rates that no workload passes; a copy counts what it reads and what it writes."""

    read_bytes_per_s: float
    copy_bytes_per_s: float
    matmul_flop_per_s: float

    def to_json(self) -> dict[str, float]:
        """For results."""
        return {name: float(f"{value:.4g}") for name, value in asdict(self).items()}

    def __str__(self) -> str:
        return (
            f"read {self.read_bytes_per_s / 1e12:.3f} TB/s, copy {self.copy_bytes_per_s / 1e12:.3f} TB/s, "
            f"matmul {self.matmul_flop_per_s / 1e12:.1f} TFLOP/s"
        )


def measure_ceilings(device: str, dtype: torch.dtype) -> Ceilings:
    """Measures all three, over 4 GiB and 8192³ on a GPU, over much less on a CPU."""
    is_gpu = device.startswith("cuda")
    ceilings = Ceilings(*_bandwidths(device, is_gpu), _matmul_rate(device, dtype, is_gpu))
    if is_gpu:
        torch.cuda.empty_cache()
    return ceilings


def _bandwidths(device: str, is_gpu: bool) -> tuple[float, float]:
    """Bytes per second of a read and of a copy."""
    source = torch.randn(1 << (30 if is_gpu else 25), device=device)
    target = torch.empty_like(source)
    read_s = _median_s(_reader(source, is_gpu), is_gpu)
    copy_s = _median_s(lambda: target.copy_(source), is_gpu)
    return source.nbytes / read_s, 2 * source.nbytes / copy_s


def _matmul_rate(device: str, dtype: torch.dtype, is_gpu: bool) -> float:
    """Operations per second."""
    size = 8192 if is_gpu else 512
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * size**3 / _median_s(lambda: torch.mm(a, b, out=out), is_gpu)


def _reader(source: torch.Tensor, is_gpu: bool) -> Callable[[], object]:
    if not is_gpu:
        return source.sum
    from tandem_bench.read_kernel import reader

    return reader(source)


def _median_s(call: Callable[[], object], is_gpu: bool) -> float:
    for _ in range(2):
        call()
    return statistics.median(seconds(call, is_gpu=is_gpu) for _ in range(REPLAYS))
