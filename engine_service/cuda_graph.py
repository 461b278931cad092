"""Steps captured as CUDA graphs, one for each size, and the padding of batches to those sizes."""

import logging
from bisect import bisect_left
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Generic, TypeVar

import torch
from tqdm import tqdm

from engine_service.model_steps import Drawn, ModelSteps
from engine_service.step_words import NO_PREFILL, PrefillShape

log = logging.getLogger("tandem.core")

Size = TypeVar("Size", bound=Hashable)

# Prompts up to the last of these run as a graph: there the host would take longer than the device.
# (Beside an H200 the host took 0.39 ms for each layer, in which Llama-3.2-1B computes 1,700 tokens.)
PREFILL_TOKENS = (16, 32, 64, *range(128, 1025, 128))
PREFILL_CHUNKS = 16


class GraphedSteps:
    """The steps of a model, by graphs where there is one for the size.

    On a GPU batches are padded to a few sizes, captured or not, so that a graph and the same work without
    it give the same tokens.
    """

    def __init__(
        self, steps: ModelSteps, max_num_seqs: int, max_prefill_tokens: int, *, is_padded: bool
    ) -> None:
        """Nothing is captured yet; `is_padded` on a GPU."""
        self._steps = steps
        self._decode_sizes = decode_sizes(max_num_seqs) if is_padded else []
        self._prefill_sizes = [size for size in PREFILL_TOKENS if size <= max_prefill_tokens and is_padded]
        self._max_num_seqs = max_num_seqs
        pool = torch.cuda.graph_pool_handle() if is_padded else None
        self._decode = _Graphs(steps.decode, pool)
        self._prefill = _Graphs(steps.prefill, pool)

    def decode(self, num_seqs: int) -> Drawn:
        """As ModelSteps.decode, for any number of sequences; rows behind them are to be padding."""
        index = bisect_left(self._decode_sizes, num_seqs)
        return self._decode.run(self._decode_sizes[index] if self._decode_sizes else num_seqs)

    def prefill_shape(self, shape: PrefillShape) -> PrefillShape:
        """The shape to which a batch of chunks is to be padded."""
        index = bisect_left(self._prefill_sizes, shape.num_tokens)
        if (
            shape == NO_PREFILL
            or index == len(self._prefill_sizes)
            or shape.num_chunks > self._prefill_chunks
        ):
            return shape
        return self._prefill_shape(self._prefill_sizes[index])

    def prefill(self, shape: PrefillShape) -> Drawn:
        """As ModelSteps.prefill."""
        return self._prefill.run(shape)

    def capture(self) -> int:
        """Captures every size, the largest first; returns for how many there was memory."""
        shapes = [self._prefill_shape(size) for size in reversed(self._prefill_sizes)]
        sizes = self._decode_sizes[::-1]
        num_graphs = len(sizes) + len(shapes)
        with tqdm(total=num_graphs, desc="capturing graphs", unit="graph") as bar:
            self._steps.fill_with_padding(NO_PREFILL)
            num_captured = self._decode.capture(sizes, bar.update)
            for shape in shapes if num_captured == len(sizes) else []:
                self._steps.fill_with_padding(shape)
                num_captured += self._prefill.capture([shape], bar.update)
        if num_captured < num_graphs:
            log.warning(
                "no memory for %d of %d graphs: those batches run without, slower; "
                "lower --gpu-memory-utilization or --max-num-seqs to have them",
                num_graphs - num_captured,
                num_graphs,
            )
        return num_captured

    @property
    def _prefill_chunks(self) -> int:
        return min(PREFILL_CHUNKS, self._max_num_seqs)

    def _prefill_shape(self, num_tokens: int) -> PrefillShape:
        return PrefillShape(num_tokens, self._prefill_chunks, self._prefill_chunks)


class _Graphs(Generic[Size]):
    """One function's graphs, all in one pool of memory: never do two of them run at once."""

    def __init__(self, function: Callable[[Size], Drawn], pool: Any) -> None:
        self._function = function
        self._pool = pool
        self._captured: dict[Size, tuple[torch.cuda.CUDAGraph, Drawn]] = {}

    def run(self, size: Size) -> Drawn:
        """Replays the size's graph; without one, calls the function."""
        if size not in self._captured:
            return self._function(size)
        graph, drawn = self._captured[size]
        graph.replay()
        return drawn

    def capture(self, sizes: Sequence[Size], on_captured: Callable[[], object]) -> int:
        """Captures sizes until memory runs out; returns how many it did."""
        for number, size in enumerate(sizes):
            try:
                self._captured[size] = self._capture(size)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                return number
            on_captured()
        return len(sizes)

    def _capture(self, size: Size) -> tuple[torch.cuda.CUDAGraph, Drawn]:
        self._function(size)  # compiles what is not compiled yet, which a capture cannot
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            drawn = self._function(size)
        return graph, drawn


def decode_sizes(max_num_seqs: int) -> list[int]:
    """Ascending batch sizes, the most sequences last: fine where a step is short, coarser above."""
    sizes = [1, 2, 4, 8, *range(16, 64, 16), *range(64, 256, 32), *range(256, max_num_seqs, 64)]
    return [size for size in sizes if size < max_num_seqs] + [max_num_seqs]
