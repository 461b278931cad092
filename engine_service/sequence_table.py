"""What the device knows of each running sequence: one row of every tensor here."""

import torch

from engine_service.sampling_params import MAX_LOGIT_BIAS
from engine_service.sequence import Sequence

NO_TOKEN = -1


class SequenceTable:
    """Per-sequence state of the sampler, by row.

    Attributes:
        last_tokens: [max_num_seqs], the next decode step's input.
        temperature, top_p, min_p, repetition, presence, frequency: [max_num_seqs] float32.
        top_k: [max_num_seqs], the vocabulary size for no bound.
        seeds: [max_num_seqs] int64, the bits of the unsigned seed.
        min_lengths: [max_num_seqs], tokens before which no stop token is drawn.
        stop_ids: [max_num_seqs, max_stop_ids], padded with NO_TOKEN.
        bias_ids, bias_values: [max_num_seqs, MAX_LOGIT_BIAS], padded with id 0 and value 0.
        in_prompt: [max_num_seqs, vocab_size], whether a token is in the prompt.
        output_counts: [max_num_seqs, vocab_size], how often a token is in the output.
    """

    def __init__(self, num_rows: int, vocab_size: int, max_stop_ids: int, device: torch.device) -> None:
        """Rows with undefined content."""
        self.vocab_size = vocab_size
        with device:
            self.last_tokens = torch.zeros(num_rows, dtype=torch.int64)
            self.temperature = torch.zeros(num_rows)
            self.top_p = torch.zeros(num_rows)
            self.min_p = torch.zeros(num_rows)
            self.repetition = torch.zeros(num_rows)
            self.presence = torch.zeros(num_rows)
            self.frequency = torch.zeros(num_rows)
            self.top_k = torch.zeros(num_rows, dtype=torch.int64)
            self.seeds = torch.zeros(num_rows, dtype=torch.int64)
            self.min_lengths = torch.zeros(num_rows, dtype=torch.int64)
            self.stop_ids = torch.full((num_rows, max_stop_ids), NO_TOKEN)
            self.bias_ids = torch.zeros(num_rows, MAX_LOGIT_BIAS, dtype=torch.int64)
            self.bias_values = torch.zeros(num_rows, MAX_LOGIT_BIAS)
            self.in_prompt = torch.zeros(num_rows, vocab_size, dtype=torch.bool)
            self.output_counts = torch.zeros(num_rows, vocab_size, dtype=torch.int32)

    def set_row(self, sequence: Sequence) -> None:
        """Fills the row of a sequence whose tokens are all known."""
        row, params = sequence.row, sequence.spec.sampling
        self.temperature[row] = params.temperature
        self.top_p[row] = params.top_p
        self.min_p[row] = params.min_p
        self.repetition[row] = params.repetition_penalty
        self.presence[row] = params.presence_penalty
        self.frequency[row] = params.frequency_penalty
        self.top_k[row] = params.top_k or self.vocab_size
        self.seeds[row] = params.seed - (1 << 64) if params.seed >> 63 else params.seed
        self.min_lengths[row] = sequence.num_prompt + sequence.spec.min_tokens
        _fill(self.stop_ids[row], list(sequence.stop_reasons), NO_TOKEN)
        _fill(self.bias_ids[row], [token for token, _ in params.logit_bias], 0)
        _fill(self.bias_values[row], [bias for _, bias in params.logit_bias], 0.0)
        if params.has_penalties:
            self._count_tokens(sequence)

    def add_tokens(
        self,
        rows: torch.Tensor,  # [num_seqs]
        tokens: torch.Tensor,  # [num_seqs]
    ) -> None:
        """Takes in newly drawn tokens."""
        self.last_tokens[rows] = tokens
        self.output_counts[rows, tokens] += 1

    def _count_tokens(self, sequence: Sequence) -> None:
        prompt = torch.tensor(sequence.tokens[: sequence.num_prompt])
        output = torch.tensor(sequence.tokens[sequence.num_prompt :], dtype=torch.int64)
        self.in_prompt[sequence.row] = False
        self.in_prompt[sequence.row, prompt] = True
        self.output_counts[sequence.row] = output.bincount(minlength=self.vocab_size)


def _fill(row: torch.Tensor, values: list[int] | list[float], padding: float) -> None:
    row.fill_(padding)
    row[: len(values)] = torch.tensor(values, dtype=row.dtype)
