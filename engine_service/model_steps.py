"""The device's part of a step, from the words of the upload to drawn tokens. This is what graphs capture."""

from dataclasses import dataclass

import torch

from engine_service.batch import DecodeBatch, PrefillBatch
from engine_service.kv_cache import KVCache
from engine_service.models.decoder import Decoder
from engine_service.plan import Plan
from engine_service.sequence_table import SequenceTable
from engine_service.step_words import PrefillShape, step_words
from engine_service.upload import Upload, aligned
from tandem_kernels import sample
from tandem_kernels.decode_plan import DecodePlan


@dataclass
class Drawn:
    """What a part of a step computed; tensors that a captured graph writes anew with each replay.

    Attributes:
        tokens: [num_drawing] int32.
        logits: [num_drawing, vocab_size] float32, as the model gave them.
        residual: [num_tokens, hidden_size], the residual stream after the last layer; of a prefill that is
            not whole, [num_drawing, hidden_size].
    """

    tokens: torch.Tensor
    logits: torch.Tensor
    residual: torch.Tensor


class ModelSteps:
    """A model with its cache, its sequences' state, its input and the room for its logits."""

    def __init__(
        self, model: Decoder, cache: KVCache, table: SequenceTable, upload: Upload, plan: DecodePlan
    ) -> None:
        """All on the same device; the upload's words are the input."""
        self.model = model
        self.cache = cache
        self.table = table
        self.upload = upload
        self._words = upload.words
        self._plan = plan
        self._max_num_seqs = table.scratch_row
        self._context_length = min(len(model.cos_sin), table.layout.max_blocks * cache.block_size)
        # Logits as the model gives them, and those of rows whose rules change them.
        shape = (self._max_num_seqs, table.token_counts.shape[1])
        self._logits, self._adjusted = (
            torch.empty(shape, dtype=torch.float32, device=upload.words.device) for _ in range(2)
        )

    def fill_with_padding(self, shape: PrefillShape) -> None:
        """Makes the words a step of nothing but padding, with a prefill of this shape."""
        self.upload.send(step_words(Plan(0, [], []), shape, self._max_num_seqs), self.table)

    def decode(self, num_seqs: int) -> Drawn:
        """The next token of `num_seqs` sequences, padding included, whose rows and context lengths are the
        first two parts of the words.
        """
        begin = aligned(self._max_num_seqs)
        rows, lens = self._words[:num_seqs], self._words[begin : begin + num_seqs]
        batch = DecodeBatch.of(rows, lens, self.table, self.cache.block_size, self._plan)
        residual = self.model(batch, self.cache)
        return self._draw(residual, residual, rows, lens)

    def prefill(self, shape: PrefillShape) -> Drawn:
        """Chunks of prompts, packed behind the words for `decode`, and the first tokens after them."""
        begin = 2 * aligned(self._max_num_seqs)
        words = self._words[begin : begin + shape.num_words]
        batch = PrefillBatch.of(words, shape, self.table, self.cache.block_size, self._context_length)
        residual = self.model(batch, self.cache, None if shape.is_whole else batch.ends)
        ends = residual[batch.ends] if shape.is_whole else residual
        return self._draw(residual, ends, batch.draw_rows, batch.draw_positions)

    def _draw(
        self,
        residual: torch.Tensor,  # [num_tokens or num_drawing, hidden_size]
        ends: torch.Tensor,  # [num_drawing, hidden_size]
        rows: torch.Tensor,  # [num_drawing]
        positions: torch.Tensor,  # [num_drawing], of the tokens to draw
    ) -> Drawn:
        logits, adjusted = self._logits[: len(rows)], self._adjusted[: len(rows)]
        if len(rows) == 0:
            return Drawn(rows, logits, residual)
        self.model.logits(ends, logits)
        state, counts = self.table.state, self.table.token_counts
        tokens = sample(logits, adjusted, rows, positions, state, counts, self.table.layout)
        return Drawn(tokens, logits, residual)
