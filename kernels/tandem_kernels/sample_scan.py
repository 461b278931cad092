"""The first half of sampling: reads all logits once, and leaves a few words for each tile of them."""

import triton
import triton.language as tl

from tandem_kernels.gumbel import noise_key, perturb
from tandem_kernels.sample_row import (
    FREQUENCY,
    HAS_PENALTIES,
    LOG2_E,
    NUM_BIASES,
    NUM_STOP_IDS,
    PRESENCE,
    REPETITION,
    SEED_HIGH,
    SEED_LOW,
    TEMPERATURE,
    float_word,
    forbids_stops,
    is_adjusted,
    is_truncated,
)

_BLOCK_LIST = tl.constexpr(128)
# Finite, since the difference of two infinities would be NaN.
_LOWEST = tl.constexpr(-3.4028234e38)


@triton.jit(do_not_specialize=["row_size"], do_not_specialize_on_alignment=["rows", "positions"])
def _scan_kernel(
    logits: tl.tensor,  # [B, VOCAB_SIZE]
    adjusted: tl.tensor,  # [B, VOCAB_SIZE], written in rows that have rules
    rows: tl.tensor,  # [B]
    positions: tl.tensor,  # [B]
    state: tl.tensor,  # [num_rows, row_size]
    token_counts: tl.tensor,  # [num_rows, VOCAB_SIZE]
    best_values: tl.tensor,  # [B, tiles], of logits, or of scaled logits with their noise
    best_tokens: tl.tensor,  # [B, tiles]
    peaks: tl.tensor,  # [B, tiles], of scaled logits; written in truncated rows, like the next two
    sums: tl.tensor,  # [B, tiles], of the powers of 2 of scaled logits less their peak
    group_peaks: tl.tensor,  # [B, tiles * TILE / GROUP], of scaled logits
    row_size: int,
    VOCAB_SIZE: tl.constexpr,
    STOP_IDS: tl.constexpr,
    BIAS_IDS: tl.constexpr,
    BIAS_VALUES: tl.constexpr,
    TILE: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    tile = tl.program_id(0)
    seq = tl.program_id(1).to(tl.int64)
    tokens = tile * TILE + tl.arange(0, TILE)
    mask = tokens < VOCAB_SIZE
    x = tl.load(logits + seq * VOCAB_SIZE + tokens, mask=mask, other=float("-inf"))
    row_index = tl.load(rows + seq).to(tl.int64)
    row = state + row_index * row_size
    position = tl.load(positions + seq)
    if is_adjusted(row, position):
        if tl.load(row + HAS_PENALTIES) != 0:
            x = _penalize(x, tl.load(token_counts + row_index * VOCAB_SIZE + tokens, mask=mask, other=0), row)
        target = adjusted + seq * VOCAB_SIZE
        tl.store(target + tokens, x, mask=mask)
        tl.debug_barrier()
        _bias(target, row, tile * TILE, BIAS_IDS, BIAS_VALUES, TILE)
        tl.debug_barrier()
        if forbids_stops(row, position):
            _forbid(target, row, tile * TILE, STOP_IDS, TILE)
            tl.debug_barrier()
        x = tl.load(target + tokens, mask=mask, other=float("-inf"))

    place = seq * tl.num_programs(0) + tile
    temperature = float_word(row, TEMPERATURE)
    if temperature > 0:
        x *= LOG2_E / temperature
        if is_truncated(row, VOCAB_SIZE):
            groups = tl.arange(0, TILE // GROUP)
            tl.store(group_peaks + place * (TILE // GROUP) + groups, _group_peaks(x, TILE, GROUP))
            peak = tl.maximum(tl.max(x, 0), _LOWEST)
            tl.store(peaks + place, peak)
            tl.store(sums + place, tl.sum(tl.exp2(x - peak), 0))
        key = noise_key(tl.load(row + SEED_LOW), tl.load(row + SEED_HIGH), position)
        x = perturb(x, key, tokens)
    best = tl.max(x, 0)
    tl.store(best_values + place, best)
    tl.store(best_tokens + place, tl.min(tl.where(x == best, tokens, VOCAB_SIZE), 0))


@triton.jit
def _group_peaks(x: tl.tensor, TILE: tl.constexpr, GROUP: tl.constexpr) -> tl.tensor:  # [TILE / GROUP]
    return tl.max(tl.reshape(x, [TILE // GROUP, GROUP]), 1)


@triton.jit
def _penalize(
    x: tl.tensor,  # [TILE]
    words: tl.tensor,  # [TILE] int32 of token_counts
    row: tl.tensor,
) -> tl.tensor:  # [TILE]
    """Repetition penalty (Keskar et al., 2019) over prompt and output, the others over the output."""
    repetition = float_word(row, REPETITION)
    counts = words >> 1
    repeated = tl.where(x > 0, x * (1 / repetition), x * repetition)
    x = tl.where(words != 0, repeated, x) - float_word(row, FREQUENCY) * counts.to(tl.float32)
    return x - tl.where(counts > 0, float_word(row, PRESENCE), 0.0)


@triton.jit
def _bias(
    target: tl.tensor,  # [VOCAB_SIZE]
    row: tl.tensor,
    begin: tl.tensor,
    BIAS_IDS: tl.constexpr,
    BIAS_VALUES: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """Adds the biases of tokens in [begin, begin + TILE)."""
    num_biases = tl.load(row + NUM_BIASES)
    for start in range(0, num_biases, _BLOCK_LIST):
        index = start + tl.arange(0, _BLOCK_LIST)
        is_used = index < num_biases
        ids = tl.load(row + BIAS_IDS + index, mask=is_used, other=0)
        bias = tl.load(row + BIAS_VALUES + index, mask=is_used, other=0).to(tl.float32, bitcast=True)
        is_here = is_used & (ids >= begin) & (ids < begin + TILE)
        tl.store(target + ids, tl.load(target + ids, mask=is_here, other=0.0) + bias, mask=is_here)


@triton.jit
def _forbid(
    target: tl.tensor,  # [VOCAB_SIZE]
    row: tl.tensor,
    begin: tl.tensor,
    STOP_IDS: tl.constexpr,
    TILE: tl.constexpr,
) -> None:
    """-inf for the stop ids in [begin, begin + TILE)."""
    num_ids = tl.load(row + NUM_STOP_IDS)
    for start in range(0, num_ids, _BLOCK_LIST):
        index = start + tl.arange(0, _BLOCK_LIST)
        is_used = index < num_ids
        ids = tl.load(row + STOP_IDS + index, mask=is_used, other=0)
        is_here = is_used & (ids >= begin) & (ids < begin + TILE)
        tl.store(target + ids, float("-inf"), mask=is_here)
