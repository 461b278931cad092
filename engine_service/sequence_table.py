"""What the device knows of each running sequence: one row of words, and counts of its tokens."""

from __future__ import annotations

import struct
from array import array

import torch

from engine_service.sequence import Sequence
from tandem_kernels.sequence_state import Column, StateLayout

WORD = "i"  # the array type of 32-bit words


class SequenceTable:
    """Per-sequence state by row. Changes are collected here and written by the step's upload.

    Attributes:
        state: [num_rows + 1, row_size] int32, laid out by `layout`; the last row is for padding.
        token_counts: [num_rows + 1, vocab_size] int32, for rows with penalties: bit 0 says that a token
            is in the prompt, the rest how often it is in the output.
        scratch_row: The row of padding; its block table has nothing but the cache's scratch block.
    """

    def __init__(self, num_rows: int, vocab_size: int, layout: StateLayout, device: torch.device) -> None:
        """All rows are zero: greedy, without rules, in block 0."""
        self.layout = layout
        self.state = torch.zeros(num_rows + 1, layout.row_size, dtype=torch.int32, device=device)
        self.token_counts = torch.zeros(num_rows + 1, vocab_size, dtype=torch.int32, device=device)
        self.scratch_row = num_rows
        self._places = array(WORD)
        self._words = array(WORD)

    @property
    def block_tables(self) -> torch.Tensor:
        """[num_rows + 1, max_blocks], a view."""
        return self.state[:, self.layout.block_table :]

    def use_scratch_block(self, block: int) -> None:
        """Names the block that takes the keys and values of padding."""
        self.block_tables[self.scratch_row] = block

    def set_row(self, sequence: Sequence) -> None:
        """Fills the row of a sequence whose tokens are all known."""
        begin = sequence.row * self.layout.row_size
        self._write(begin + Column.TEMPERATURE, _parameters(sequence, self.token_counts.shape[1]))
        self._write(begin + self.layout.stop_ids, array(WORD, sequence.stop_reasons))
        biases = sequence.spec.sampling.logit_bias
        self._write(begin + self.layout.bias_ids, array(WORD, [token for token, _ in biases]))
        self._write(begin + self.layout.bias_values, _floats(*(bias for _, bias in biases)))
        self.add_blocks(sequence, 0)
        if sequence.spec.sampling.has_penalties:
            self._count_tokens(sequence)

    def add_blocks(self, sequence: Sequence, first: int) -> None:
        """Writes the sequence's blocks from index `first` on."""
        begin = sequence.row * self.layout.row_size + self.layout.block_table
        self._write(begin + first, array(WORD, sequence.blocks[first:]))

    def take_changes(self) -> tuple[array[int], array[int]]:
        """Places in the flat state and the words to write there, since the last call."""
        changes = self._places, self._words
        self._places, self._words = array(WORD), array(WORD)
        return changes

    def _write(self, place: int, words: array[int]) -> None:
        self._places.extend(range(place, place + len(words)))
        self._words.extend(words)

    def _count_tokens(self, sequence: Sequence) -> None:
        vocab_size = self.token_counts.shape[1]
        prompt = torch.tensor(sequence.tokens[: sequence.num_prompt])
        output = torch.tensor(sequence.tokens[sequence.num_prompt :], dtype=torch.int64)
        is_pinned = self.token_counts.is_cuda
        counts = torch.empty(vocab_size, dtype=torch.int32, pin_memory=is_pinned)
        counts.copy_(output.bincount(minlength=vocab_size) * 2)
        counts[prompt] |= 1
        self.token_counts[sequence.row].copy_(counts, non_blocking=True)


def _parameters(sequence: Sequence, vocab_size: int) -> array[int]:
    """The words from TEMPERATURE to HAS_PENALTIES, in the order of Column."""
    params = sequence.spec.sampling
    words = _floats(
        params.temperature,
        params.top_p,
        params.min_p,
        params.repetition_penalty,
        params.presence_penalty,
        params.frequency_penalty,
    )
    words.append(min(params.top_k, vocab_size) or vocab_size)
    words.frombytes(params.seed.to_bytes(8, "little"))
    # More than any sequence can have counts as never.
    words.append(min(sequence.num_prompt + sequence.spec.min_tokens, 2**31 - 1))
    words.append(len(sequence.stop_reasons))
    words.append(len(params.logit_bias))
    words.append(params.has_penalties)
    return words


def _floats(*values: float) -> array[int]:
    words = array(WORD)
    words.frombytes(struct.pack(f"<{len(values)}f", *values))
    return words
