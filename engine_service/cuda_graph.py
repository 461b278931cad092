"""Steps by CUDA graphs, and the padding of batches to the sizes that have one."""

from bisect import bisect_left
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from typing import Any

from engine_service.graphs import GraphPool, Graphs
from engine_service.model_steps import Drawn, ModelSteps
from engine_service.step_words import NO_PREFILL, PrefillShape

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
        self,
        steps: ModelSteps,
        max_num_seqs: int,
        max_prefill_tokens: int,
        pool: GraphPool | None,
        *,
        is_padded: bool,
    ) -> None:
        """Nothing is captured yet, and without a pool nothing can be; `is_padded` on a GPU."""
        self._steps = steps
        self._decode_sizes = decode_sizes(max_num_seqs) if is_padded else []
        self._prefill_sizes = [size for size in PREFILL_TOKENS if size <= max_prefill_tokens and is_padded]
        self._max_num_seqs = max_num_seqs
        self._decode = Graphs(steps.decode, pool)
        self._prefill = Graphs(steps.prefill, pool)

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
        return replace(self._prefill_shape(self._prefill_sizes[index]), is_whole=shape.is_whole)

    def prefill(self, shape: PrefillShape) -> Drawn:
        """As ModelSteps.prefill."""
        return self._prefill.run(shape)

    def run_all(self) -> None:
        """Computes each size once, from whatever the words are."""
        for size in self._decode_sizes:
            self._steps.decode(size)
        for num_tokens in self._prefill_sizes:
            self._steps.prefill(self._prefill_shape(num_tokens))

    def captures(self) -> list[Callable[[], None]]:
        """What captures each size, the largest first."""
        shapes = [self._prefill_shape(size) for size in reversed(self._prefill_sizes)]
        captures: list[Callable[[], None]] = [
            partial(self._capture, self._decode, size, NO_PREFILL) for size in self._decode_sizes[::-1]
        ]
        captures += [partial(self._capture, self._prefill, shape, shape) for shape in shapes]
        return captures

    @property
    def _prefill_chunks(self) -> int:
        return min(PREFILL_CHUNKS, self._max_num_seqs)

    def _capture(self, graphs: Graphs[Any, Drawn], size: Hashable, shape: PrefillShape) -> None:
        self._steps.fill_with_padding(shape)
        graphs.capture(size)

    def _prefill_shape(self, num_tokens: int) -> PrefillShape:
        return PrefillShape(num_tokens, self._prefill_chunks, self._prefill_chunks)


def decode_sizes(max_num_seqs: int) -> list[int]:
    """Ascending batch sizes, the most sequences last: fine where a step is short, coarser above."""
    sizes = [1, 2, 4, 8, *range(16, 64, 16), *range(64, 256, 32), *range(256, max_num_seqs, 64)]
    return [size for size in sizes if size < max_num_seqs] + [max_num_seqs]
