"""Runs plans on the device. The one owner of the model's tensors."""

import os
from collections.abc import Sequence as Items
from dataclasses import dataclass
from pathlib import Path

import torch

from engine_service.batch import DecodeBatch, PrefillBatch
from engine_service.config import EngineConfig
from engine_service.kv_cache import KVCache, bytes_per_block
from engine_service.model_config import ModelConfig
from engine_service.models.decoder import Decoder
from engine_service.plan import Outcome, Plan, PrefillChunk
from engine_service.sampler import Needs, log_probabilities, sample
from engine_service.sampling_params import MAX_STOP_TOKEN_IDS
from engine_service.sequence import Logprobs, Sequence
from engine_service.sequence_table import SequenceTable
from engine_service.weights import load_weights

# Rows of logits that prompt log-probabilities take at once; 256 rows of 128k ids are 128 MiB.
LOGPROB_ROWS = 256


@dataclass
class Launched:
    """A step on its way.

    Attributes:
        tokens: The drawn ids, in the order of Plan.drawing(); one tensor for each batch.
        logprobs, prompt_logprobs: As in Outcome.
    """

    tokens: list[torch.Tensor]
    logprobs: dict[int, Logprobs]
    prompt_logprobs: dict[int, Logprobs]


class ModelRunner:
    """A model, its KV cache and the state of its running sequences."""

    def __init__(self, model: Decoder, cache: KVCache, table: SequenceTable) -> None:
        """All on the same device."""
        self._model = model
        self._cache = cache
        self._table = table
        self._device = table.last_tokens.device

    @property
    def num_blocks(self) -> int:
        """Blocks of the KV cache."""
        return self._cache.keys.shape[1]

    @property
    def dtype(self) -> str:
        """Type of the weights, for example "float32"."""
        return str(self._cache.keys.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """Where it runs, for example "cpu"."""
        return str(self._device)

    @torch.inference_mode()
    def launch(self, plan: Plan) -> Launched:
        """Runs the prefill chunks, then the decoding sequences."""
        launched = Launched([], {}, {})
        if plan.prefills:
            self._prefill(plan.prefills, launched)
        if plan.decodes:
            self._decode(plan.decodes, launched)
        return launched

    def collect(self, launched: Launched) -> Outcome:
        """Reads a step back."""
        tokens = [token for part in launched.tokens for token in part.tolist()]
        return Outcome(tokens, launched.logprobs, launched.prompt_logprobs)

    def _prefill(self, chunks: list[PrefillChunk], launched: Launched) -> None:
        batch = PrefillBatch.of(chunks, self._cache.block_size, self._device)
        hidden = self._model(batch, self._cache)
        self._prompt_logprobs(chunks, hidden, launched)
        drawing = [chunk.sequence for chunk in chunks if chunk.is_last]
        if not drawing:
            return
        for sequence in drawing:
            self._table.set_row(sequence)
        is_last = torch.tensor([chunk.is_last for chunk in chunks])
        ends = batch.cu_seqlens_q[1:][is_last] - 1
        rows = torch.tensor([sequence.row for sequence in drawing], device=self._device)
        self._draw(hidden[ends], rows, batch.context_lens[is_last], drawing, launched)

    def _decode(self, sequences: list[Sequence], launched: Launched) -> None:
        batch = DecodeBatch.of(sequences, self._table.last_tokens, self._cache.block_size, self._device)
        hidden = self._model(batch, self._cache)
        self._draw(hidden, batch.rows, batch.context_lens, sequences, launched)

    def _draw(
        self,
        hidden: torch.Tensor,  # [num_seqs, hidden_size]
        rows: torch.Tensor,  # [num_seqs]
        positions: torch.Tensor,  # [num_seqs], of the tokens to draw
        sequences: Items[Sequence],
        launched: Launched,
    ) -> None:
        logits = self._model.logits(hidden)
        tokens = sample(logits, rows, positions, self._table, Needs.of(sequences))
        self._table.add_tokens(rows, tokens)
        first_place = sum(len(part) for part in launched.tokens)
        for index, sequence in enumerate(sequences):
            if (k := sequence.spec.logprobs) is not None:
                row = slice(index, index + 1)
                launched.logprobs[first_place + index] = log_probabilities(logits[row], tokens[row], k)
        launched.tokens.append(tokens)

    def _prompt_logprobs(
        self,
        chunks: list[PrefillChunk],
        hidden: torch.Tensor,  # [num_tokens, hidden_size]
        launched: Launched,
    ) -> None:
        """Entries for the prompt tokens that each chunk's places predict."""
        begin = 0
        for place, chunk in enumerate(chunks):
            if chunk.sequence.prompt_logprobs is not None and not chunk.sequence.is_started:
                entries = Logprobs(chunk.sequence.prompt_logprobs.num_candidates)
                predicted = chunk.sequence.tokens[chunk.start + 1 : chunk.start + chunk.length + 1]
                for start in range(0, len(predicted), LOGPROB_ROWS):
                    part = torch.tensor(predicted[start : start + LOGPROB_ROWS], device=self._device)
                    logits = self._model.logits(hidden[begin + start : begin + start + len(part)])
                    entries.extend(log_probabilities(logits, part, entries.num_candidates))
                launched.prompt_logprobs[place] = entries
            begin += chunk.length


def load_runner(
    config: EngineConfig, model_config: ModelConfig, directory: Path, num_eos_ids: int
) -> ModelRunner:
    """Loads the weights and allocates the KV cache.

    Raises:
        ValueError: The checkpoint is broken, or the memory does not suffice.
    """
    # The services and their clients need cores too: with a thread on each core, the threads of one
    # operation wait for the one that was put aside (2 busy cores, demo model: 27 ms a step became 270).
    torch.set_num_threads(config.num_threads or max(1, (os.cpu_count() or 1) // 2))
    device = torch.device("cpu" if config.device == "auto" else config.device)
    dtype = torch.float32 if config.dtype == "auto" else getattr(torch, config.dtype)
    torch.set_default_dtype(dtype)
    model = Decoder(model_config, device)
    torch.set_default_dtype(torch.float32)
    load_weights(directory, model.checkpoint_tensors(), is_tied=model_config.is_tied)
    block_bytes = bytes_per_block(model_config, config.kv_block_size, dtype)
    num_blocks = config.num_blocks or (config.kv_cache_mib << 20) // block_bytes
    cache = KVCache(model_config, num_blocks, config.kv_block_size, dtype, device)
    max_stop_ids = MAX_STOP_TOKEN_IDS + num_eos_ids
    table = SequenceTable(config.max_num_seqs, model_config.vocab_size, max_stop_ids, device)
    return ModelRunner(model, cache, table)
