"""Sampling in plain torch: the oracle of the kernels' tests, and the CPU's path. Work is done only for the
rows that ask for it."""

import torch

from tandem_kernels.reference import softmax
from tandem_kernels.sequence_state import Column, StateLayout

# SplitMix64 (Steele, Lea and Flood, 2014), its constants as signed 64-bit integers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def sample(
    logits: torch.Tensor,  # [B, vocab_size] float32, contiguous
    adjusted: torch.Tensor,  # like logits; rows with penalties, biases or forbidden stops are overwritten
    rows: torch.Tensor,  # [B] int32, each sequence's row of state and token_counts
    positions: torch.Tensor,  # [B] int32, index in its sequence of the token to draw
    state: torch.Tensor,  # [num_rows, row_size] int32, by `layout`; the new tokens are written
    token_counts: torch.Tensor,  # [num_rows, vocab_size] int32; counts the new tokens
    layout: StateLayout,
) -> torch.Tensor:  # [B] int32
    """Draws the next token of each sequence. A draw depends on nothing but the sequence's own logits,
    parameters, seed and position: Gumbel-max with noise keyed by (seed, position, token).

    The logits are adjusted by the penalties, then by the biases (a token has at most one), then stop ids
    are forbidden where the sequence is too short. The likeliest token is the one with the lowest id of
    equal ones. In `token_counts`, which rows without penalties leave alone, bit 0 says that a token is in
    the prompt, the rest how often it is in the output. A row of state that is there twice must have no
    penalties.
    """
    words = state[rows]
    counts_rows = rows[words[:, Column.HAS_PENALTIES] != 0]
    logits = _adjust(logits, adjusted, positions, words, token_counts[counts_rows], layout)
    tokens = logits.argmax(dim=-1)
    temperature = _floats(words, Column.TEMPERATURE)
    draws = temperature > 0
    if draws.any():
        scaled = logits[draws] / temperature[draws].unsqueeze(1)
        tokens[draws] = _draw(scaled, positions[draws], words[draws])
    state[rows, Column.LAST_TOKEN] = tokens.int()
    token_counts[counts_rows, tokens[words[:, Column.HAS_PENALTIES] != 0]] += 2
    return tokens.int()


def gumbel(
    seeds: torch.Tensor,  # [B] int64, the bits of unsigned seeds
    positions: torch.Tensor,  # [B]
    vocab_size: int,
) -> torch.Tensor:  # [B, vocab_size] float32
    """Standard Gumbel noise, the same for the same (seed, position, token) always and everywhere."""
    keys = _mix(seeds + _mix(positions.long() * _GOLDEN))
    counters = torch.arange(1, vocab_size + 1, device=seeds.device) * _GOLDEN
    bits = _mix(keys.unsqueeze(1) + counters) >> 32 & 0xFFFFFFFF
    # The upper tail of the noise decides draws; it comes from uniforms near 0, which float32 resolves.
    uniform = ((bits.float() + 0.5) * 2.0**-32).clamp(max=1 - 2.0**-24)
    return -torch.log(-torch.log1p(-uniform))


def _adjust(
    logits: torch.Tensor,  # [B, vocab_size]
    adjusted: torch.Tensor,  # [B, vocab_size], written in adjusted rows
    positions: torch.Tensor,  # [B]
    words: torch.Tensor,  # [B, row_size]
    counts: torch.Tensor,  # [rows with penalties, vocab_size]
    layout: StateLayout,
) -> torch.Tensor:  # [B, vocab_size]
    """The logits that tokens are drawn from."""
    penalized = words[:, Column.HAS_PENALTIES] != 0
    biased = words[:, Column.NUM_BIASES] > 0
    short = (positions < words[:, Column.MIN_LENGTH]) & (words[:, Column.NUM_STOP_IDS] > 0)
    has_rules = penalized | biased | short
    if not has_rules.any():
        return logits
    adjusted[has_rules] = logits[has_rules]
    if penalized.any():
        adjusted[penalized] = _penalize(logits[penalized], words[penalized], counts)
    for index in biased.nonzero()[:, 0].tolist():
        count = int(words[index, Column.NUM_BIASES])
        ids = words[index, layout.bias_ids :][:count].long()
        adjusted[index, ids] += words[index, layout.bias_values :][:count].view(torch.float32)
    for index in short.nonzero()[:, 0].tolist():
        ids = words[index, layout.stop_ids :][: int(words[index, Column.NUM_STOP_IDS])].long()
        adjusted[index, ids] = float("-inf")
    return torch.where(has_rules.unsqueeze(1), adjusted, logits)


def _penalize(
    logits: torch.Tensor,  # [B, vocab_size]
    words: torch.Tensor,  # [B, row_size]
    counts: torch.Tensor,  # [B, vocab_size], rows of token_counts
) -> torch.Tensor:  # [B, vocab_size]
    """Repetition penalty (Keskar et al., 2019) over prompt and output, the others over the output."""
    repetition, presence, frequency = (
        _floats(words, column).unsqueeze(1)
        for column in (Column.REPETITION, Column.PRESENCE, Column.FREQUENCY)
    )
    in_output = counts >> 1
    repeated = torch.where(logits > 0, logits / repetition, logits * repetition)
    logits = torch.where(counts != 0, repeated, logits)
    return logits - frequency * in_output - presence * (in_output > 0)


def _draw(
    scaled: torch.Tensor,  # [B, vocab_size], logits over temperature; overwritten
    positions: torch.Tensor,  # [B]
    words: torch.Tensor,  # [B, row_size]
) -> torch.Tensor:  # [B] int64
    top_k, top_p, min_p = words[:, Column.TOP_K], _floats(words, Column.TOP_P), _floats(words, Column.MIN_P)
    truncated = (top_k < scaled.shape[1]) | (top_p < 1) | (min_p > 0)
    if truncated.any():
        scaled[truncated] = _truncate(scaled[truncated], top_k[truncated], top_p[truncated], min_p[truncated])
    low, high = words[:, Column.SEED_LOW].long(), words[:, Column.SEED_HIGH].long()
    seeds = high << 32 | low & 0xFFFFFFFF
    return (scaled + gumbel(seeds, positions, scaled.shape[1])).argmax(dim=-1)


def _truncate(
    scaled: torch.Tensor,  # [B, vocab_size], logits over temperature
    top_k: torch.Tensor,  # [B]
    top_p: torch.Tensor,  # [B] float32
    min_p: torch.Tensor,  # [B] float32
) -> torch.Tensor:  # [B, vocab_size]
    """-inf for ids outside top-k, then outside top-p of the rest, then below min-p of the likeliest.

    Kept is a beginning of the ids in order of falling probability, equal ones by id.
    """
    values, order = scaled.sort(dim=-1, descending=True, stable=True)
    ranks = torch.arange(scaled.shape[1], device=scaled.device)
    values = values.masked_fill(ranks >= top_k.unsqueeze(1), float("-inf"))
    probabilities = softmax(values)
    top_p = top_p.unsqueeze(1)
    # Probability before each id; rounding may push it past 1, which must not cut where top_p is 1.
    before = probabilities.cumsum(dim=-1) - probabilities
    keep = (before < top_p) | (top_p >= 1)
    keep &= probabilities >= min_p.unsqueeze(1) * probabilities[:, :1]
    values = values.masked_fill(~keep, float("-inf"))
    return torch.empty_like(scaled).scatter_(1, order, values)


def _floats(words: torch.Tensor, column: Column) -> torch.Tensor:
    """A column of float32."""
    return words[:, column].contiguous().view(torch.float32)


def _mix(x: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finalizer on int64 tensors of any shape; products wrap as unsigned ones would."""
    x = (x ^ (x >> 30 & (1 << 34) - 1)) * _MIX_1
    x = (x ^ (x >> 27 & (1 << 37) - 1)) * _MIX_2
    return x ^ (x >> 31 & (1 << 33) - 1)
