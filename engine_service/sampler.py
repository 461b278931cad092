"""From logits to tokens, each sequence by its own rules, all in one batch."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from engine_service.sequence import Logprobs, Sequence
from engine_service.sequence_table import NO_TOKEN, SequenceTable
from tandem_kernels import softmax

# SplitMix64 (Steele, Lea and Flood, 2014), its constants as signed 64-bit integers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


@dataclass(frozen=True)
class Needs:
    """Which rules any sequence of a batch asks for; the others are skipped.

    Attributes:
        draws: Any sequence is not greedy.
    """

    draws: bool
    truncation: bool
    penalties: bool
    bias: bool
    min_tokens: bool

    @classmethod
    def of(cls, sequences: Iterable[Sequence]) -> "Needs":
        """The needs of a batch."""
        specs = [sequence.spec for sequence in sequences]
        return cls(
            draws=any(not spec.sampling.is_greedy for spec in specs),
            truncation=any(spec.sampling.has_truncation for spec in specs),
            penalties=any(spec.sampling.has_penalties for spec in specs),
            bias=any(spec.sampling.logit_bias for spec in specs),
            min_tokens=any(spec.min_tokens for spec in specs),
        )


def sample(
    logits: torch.Tensor,  # [num_seqs, vocab_size] float32
    rows: torch.Tensor,  # [num_seqs]
    positions: torch.Tensor,  # [num_seqs], index in its sequence of the token to draw
    table: SequenceTable,
    needs: Needs,
) -> torch.Tensor:  # [num_seqs]
    """Draws the next token of each sequence. A draw depends on nothing but the sequence's own logits,
    parameters, seed and position: Gumbel-max with noise keyed by (seed, position, token).
    """
    if needs.penalties:
        logits = _penalize(logits, rows, table)
    if needs.bias:
        logits = logits.scatter_add(1, table.bias_ids[rows], table.bias_values[rows])
    if needs.min_tokens:
        logits = _forbid_stops(logits, rows, positions, table)
    greedy = logits.argmax(dim=-1)
    if not needs.draws:
        return greedy
    temperature = table.temperature[rows].unsqueeze(1)
    is_greedy = temperature == 0
    scaled = logits / torch.where(is_greedy, 1.0, temperature)
    if needs.truncation:
        scaled = _truncate(scaled, rows, table)
    drawn = (scaled + _gumbel(table.seeds[rows], positions, table.vocab_size)).argmax(dim=-1)
    return torch.where(is_greedy.squeeze(1), greedy, drawn)


def log_probabilities(
    logits: torch.Tensor,  # [num_tokens, vocab_size] float32
    tokens: torch.Tensor,  # [num_tokens]
    num_candidates: int,
) -> Logprobs:
    """The model's own log-probabilities of `tokens` and of the likeliest ids in their places."""
    logprobs = logits.log_softmax(dim=-1)
    top = logprobs.topk(num_candidates, dim=-1)
    return Logprobs(
        num_candidates,
        logprobs.gather(1, tokens.unsqueeze(1)).squeeze(1).tolist(),
        top.indices.flatten().tolist(),
        top.values.flatten().tolist(),
    )


def _penalize(
    logits: torch.Tensor,  # [num_seqs, vocab_size]
    rows: torch.Tensor,  # [num_seqs]
    table: SequenceTable,
) -> torch.Tensor:  # [num_seqs, vocab_size]
    """Repetition penalty (Keskar et al., 2019) over prompt and output, the others over the output."""
    counts = table.output_counts[rows]
    in_output = counts > 0
    repetition = table.repetition[rows].unsqueeze(1)
    repeated = torch.where(logits > 0, logits / repetition, logits * repetition)
    logits = torch.where(in_output | table.in_prompt[rows], repeated, logits)
    logits = logits - table.frequency[rows].unsqueeze(1) * counts
    return logits - table.presence[rows].unsqueeze(1) * in_output


def _forbid_stops(
    logits: torch.Tensor,  # [num_seqs, vocab_size]
    rows: torch.Tensor,  # [num_seqs]
    positions: torch.Tensor,  # [num_seqs]
    table: SequenceTable,
) -> torch.Tensor:  # [num_seqs, vocab_size]
    """-inf for the stop ids of sequences that are still shorter than their least length."""
    stop_ids = table.stop_ids[rows]
    is_short = (positions < table.min_lengths[rows]).unsqueeze(1)
    # One more column takes the padding.
    is_stop = torch.zeros(len(rows), table.vocab_size + 1, dtype=torch.bool, device=logits.device)
    is_stop.scatter_(1, torch.where(stop_ids == NO_TOKEN, table.vocab_size, stop_ids), True)
    return logits.masked_fill(is_stop[:, :-1] & is_short, float("-inf"))


def _truncate(
    scaled: torch.Tensor,  # [num_seqs, vocab_size], logits over temperature
    rows: torch.Tensor,  # [num_seqs]
    table: SequenceTable,
) -> torch.Tensor:  # [num_seqs, vocab_size]
    """-inf for ids outside top-k, then outside top-p of the rest, then below min-p of the likeliest."""
    values, order = scaled.sort(dim=-1, descending=True)
    ranks = torch.arange(table.vocab_size, device=scaled.device)
    values = values.masked_fill(ranks >= table.top_k[rows].unsqueeze(1), float("-inf"))
    probabilities = softmax(values)
    top_p = table.top_p[rows].unsqueeze(1)
    # Probability before each id; rounding may push it past 1, which must not cut where top_p is 1.
    before = probabilities.cumsum(dim=-1) - probabilities
    keep = (before < top_p) | (top_p >= 1)
    keep &= probabilities >= table.min_p[rows].unsqueeze(1) * probabilities[:, :1]
    values = values.masked_fill(~keep, float("-inf"))
    return torch.empty_like(scaled).scatter_(1, order, values)


def _gumbel(
    seeds: torch.Tensor,  # [num_seqs] int64
    positions: torch.Tensor,  # [num_seqs] int64
    vocab_size: int,
) -> torch.Tensor:  # [num_seqs, vocab_size] float32
    """Standard Gumbel noise, the same for the same (seed, position, token) always and everywhere."""
    keys = _mix(seeds + _mix(positions * _GOLDEN))
    counters = torch.arange(1, vocab_size + 1, device=seeds.device) * _GOLDEN
    bits = _mix(keys.unsqueeze(1) + counters) >> 32 & 0xFFFFFFFF
    # The upper tail of the noise decides draws; it comes from uniforms near 0, which float32 resolves.
    uniform = ((bits.float() + 0.5) * 2.0**-32).clamp(max=1 - 2.0**-24)
    return -torch.log(-torch.log1p(-uniform))


def _mix(x: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finalizer on int64 tensors of any shape; products wrap as unsigned ones would."""
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * _MIX_1
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * _MIX_2
    return x ^ (x >> 31 & (1 << 33) - 1)
