"""A step's plan as the words that travel to the device."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence as Items
from dataclasses import dataclass

from engine_service.plan import Plan, PrefillChunk
from engine_service.sequence_table import WORD
from engine_service.upload import aligned, pad


@dataclass(frozen=True)
class PrefillShape:
    """The sizes of a packed batch of chunks, its padding included.

    Attributes:
        num_tokens: Tokens of all chunks.
        num_chunks: Chunks.
        num_drawing: Chunks after which a token is drawn.
        is_whole: Whether the residual stream is wanted of all tokens, and not only of those that draw.
        is_fresh: Whether all chunks are known to be the first of their sequences.
    """

    num_tokens: int
    num_chunks: int
    num_drawing: int
    is_whole: bool = False
    is_fresh: bool = False

    @classmethod
    def of(cls, chunks: Items[PrefillChunk]) -> PrefillShape:
        """The shape without padding."""
        num_drawing = sum(chunk.is_last for chunk in chunks)
        is_whole = any(chunk.sequence.wants_prompt_logprobs for chunk in chunks)
        is_fresh = {chunk.start for chunk in chunks} == {0}
        return cls(sum(chunk.length for chunk in chunks), len(chunks), num_drawing, is_whole, is_fresh)

    def segments(self) -> Iterator[tuple[int, int]]:
        """Place and size of each part, in the order in which `step_words` writes them."""
        place = 0
        for size in self._sizes():
            yield place, size
            place += aligned(size)

    @property
    def num_words(self) -> int:
        """Words of all parts."""
        return sum(map(aligned, self._sizes()))

    def _sizes(self) -> tuple[int, ...]:
        chunks, drawing = self.num_chunks, self.num_drawing
        return (chunks + 1, chunks + 1, chunks + 1, chunks, drawing, drawing, drawing, self.num_tokens)


NO_PREFILL = PrefillShape(0, 0, 0)


def step_words(plan: Plan, shape: PrefillShape, scratch_row: int) -> array[int]:
    """The words of a step: rows of the decoding sequences, with room for `scratch_row` of them, their
    context lengths, then the chunks. All padding belongs to the scratch row.
    """
    size = aligned(scratch_row)
    words = array(WORD, [sequence.row for sequence in plan.decodes])
    words.extend([scratch_row] * (size - len(words)))
    words.extend([sequence.num_computed for sequence in plan.decodes])
    words.extend([0] * (2 * size - len(words)))
    if shape != NO_PREFILL:
        words.extend(_chunk_words(plan.prefills, shape, scratch_row))
    return words


def _chunk_words(chunks: Items[PrefillChunk], shape: PrefillShape, scratch_row: int) -> array[int]:
    """Where chunks begin in the batch, their first positions, rows and context lengths; ends, rows and
    positions of those that draw; the token ids, or whichever rows of the embedding table tokens take.
    """
    token_ids, begins = array(WORD), [0]
    for chunk in chunks:
        token_ids.extend(chunk.sequence.tokens[chunk.start : chunk.start + chunk.length])
        for run in chunk.features:
            place = begins[-1] + run.begin
            rows = range(run.row, run.row + run.end - run.begin)
            token_ids[place : place + len(rows)] = array(WORD, rows)
        begins.append(len(token_ids))
    last = [(end - 1, chunk) for end, chunk in zip(begins[1:], chunks, strict=True) if chunk.is_last]
    columns = (
        (begins, begins[-1]),
        ([chunk.start for chunk in chunks], 0),
        ([chunk.sequence.row for chunk in chunks], scratch_row),
        ([chunk.start + chunk.length for chunk in chunks], 0),
        ([end for end, _ in last], 0),
        ([chunk.sequence.row for _, chunk in last], scratch_row),
        ([chunk.start + chunk.length for _, chunk in last], 0),
        (token_ids, 0),
    )
    words = array(WORD)
    for (values, padding), (_, size) in zip(columns, shape.segments(), strict=True):
        words.extend(values)
        words.extend([padding] * (size - len(values)))
        pad(words)
    return words
