"""Work captured as CUDA graphs, one for each size of it."""

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch
from tqdm import tqdm

log = logging.getLogger("tandem.core")

Size = TypeVar("Size", bound=Hashable)
Result = TypeVar("Result")


class GraphPool:
    """Memory of graphs that never run at once."""

    def __init__(self, device: torch.device) -> None:
        """Takes memory at once, so that there is some left.

        Raises:
            torch.OutOfMemoryError: There is not even memory for a graph of next to nothing.
        """
        self.handle = torch.cuda.graph_pool_handle()
        # The first graph of a process takes memory for the generator's state, which stays while there is a
        # graph; should it find none, torch (2.11) aborts the process when that graph is deleted.
        self._first = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._first, pool=self.handle):
            torch.zeros(1, device=device)


class Graphs(Generic[Size, Result]):
    """One function's graphs."""

    def __init__(self, function: Callable[[Size], Result], pool: GraphPool | None) -> None:
        """Nothing is captured yet; without a pool nothing can be."""
        self._function = function
        self._pool = pool
        self._captured: dict[Size, tuple[torch.cuda.CUDAGraph, Result]] = {}

    @property
    def sizes(self) -> set[Size]:
        """The sizes that have a graph."""
        return set(self._captured)

    def run(self, size: Size) -> Result:
        """Replays the size's graph; without one, calls the function."""
        if size not in self._captured:
            return self._function(size)
        graph, result = self._captured[size]
        graph.replay()
        return result

    def capture(self, size: Size) -> None:
        """Captures the function's work for a size, which it must be able to do now.

        Raises:
            torch.OutOfMemoryError: There is no memory for the graph.
        """
        self._captured[size] = self._capture(size)

    def _capture(self, size: Size) -> tuple[torch.cuda.CUDAGraph, Result]:
        assert self._pool is not None
        self._function(size)  # compiles what is not compiled yet, which a capture cannot
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool.handle):
            result = self._function(size)
        return graph, result


def capture_in_turn(captures: Sequence[Callable[[], None]]) -> int:
    """Captures graphs, the most wanted first; returns for how many there was memory."""
    with tqdm(total=len(captures), desc="capturing graphs", unit="graph") as bar:
        for number, capture in enumerate(captures):
            try:
                capture()
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                log.warning(
                    "no memory for %d of %d graphs: those batches run without, slower; "
                    "lower --gpu-memory-utilization or --max-num-seqs to have them",
                    len(captures) - number,
                    len(captures),
                )
                return number
            bar.update()
    return len(captures)
