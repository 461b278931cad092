"""Times of work on the GPU, by replays of CUDA graphs, so that the host's launches do not count."""

import statistics
from collections.abc import Callable, Sequence

import torch

from tandem_bench.read_kernel import reader


def median_us(calls: Sequence[Callable[[], object]], replays: int = 20) -> float:
    """The time of one call, in microseconds: the median over replays of a graph of all of them.

    Args:
        calls: The same work on different memory, enough of it that no call finds its data in the cache.
        replays: Counted replays.
    """
    graph = _captured(calls)
    graph.replay()
    return statistics.median(_replay_us(graph) / len(calls) for _ in range(replays))


def in_turn_us(chains: Sequence[Sequence[Callable[[], object]]], rounds: int = 8) -> list[float]:
    """The times of whole chains, in microseconds, measured in turn: the GPU's clock follows its power.

    Args:
        chains: Each becomes a graph.
        rounds: In each of which every graph is replayed twice, and the second time counts.
    """
    graphs = [_captured(calls) for calls in chains]
    times: list[list[float]] = [[] for _ in graphs]
    for _ in range(rounds):
        for graph, found in zip(graphs, times, strict=True):
            graph.replay()
            found.append(_replay_us(graph))
    return [statistics.median(found) for found in times]


def _captured(calls: Sequence[Callable[[], object]]) -> torch.cuda.CUDAGraph:
    # What compiles or allocates once does so before the capture.
    for call in calls:
        call()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        # Results are kept until the capture ends, or all calls would write to the same memory.
        results = [call() for call in calls]
    del results
    return graph


def _replay_us(graph: torch.cuda.CUDAGraph) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) * 1e3


def copy_bandwidth() -> float:
    """The ceiling of what reads and writes memory, in bytes per second: a copy of 2 GiB."""
    source = torch.randn(1 << 29, device="cuda")
    target = torch.empty_like(source)
    return 2.0 * source.nbytes / median_us([lambda: target.copy_(source)] * 4) * 1e6


def read_bandwidth() -> float:
    """The ceiling of what only reads, in bytes per second: 4 GiB."""
    source = torch.randn(1 << 30, device="cuda")
    return source.nbytes / median_us([reader(source)] * 4) * 1e6


def matmul_rate() -> float:
    """The ceiling of products, in operations per second: a bfloat16 product of 8192 by 8192."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * 8192**3 / median_us([lambda: a @ b] * 4) * 1e6
