"""The second half of sampling: the token of each sequence, from what `sample_scan` left.

The best of the perturbed logits is the draw, unless truncation drops that token: then nothing that is
less likely is kept either, and the best of the likelier tokens is tried next, until one is kept. Whether a
token is kept takes a pass over the likelier ones, a count and a sum, and no sort. The tokens ahead of
the first candidate have at least the probability p of top-p with probability p: one pass mostly does it.
Passes read the groups of tokens whose peaks are high enough, which the scan noted.
"""

import triton
import triton.language as tl

from tandem_kernels.gumbel import noise_key
from tandem_kernels.sample_bounds import floor_of_shares, kth_highest, sum_of_top_k
from tandem_kernels.sample_passes import before, best_before, list_groups
from tandem_kernels.sample_row import (
    HAS_PENALTIES,
    LAST_TOKEN,
    LOG2_E,
    MIN_P,
    SEED_HIGH,
    SEED_LOW,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    float_word,
    is_adjusted,
    is_truncated,
)


@triton.jit(do_not_specialize=["num_tiles", "row_size"], do_not_specialize_on_alignment=["rows", "positions"])
def _pick_kernel(
    logits: tl.tensor,  # [B, VOCAB_SIZE]
    adjusted: tl.tensor,  # [B, VOCAB_SIZE]
    rows: tl.tensor,  # [B]
    positions: tl.tensor,  # [B]
    state: tl.tensor,  # [num_rows, row_size]
    token_counts: tl.tensor,  # [num_rows, VOCAB_SIZE]
    best_values: tl.tensor,  # [B, num_tiles]
    best_tokens: tl.tensor,  # [B, num_tiles]
    peaks: tl.tensor,  # [B, num_tiles]
    sums: tl.tensor,  # [B, num_tiles]
    group_peaks: tl.tensor,  # [B, num_tiles * TILE_GROUPS]
    group_lists: tl.tensor,  # like group_peaks, int32; room to work in
    drawn: tl.tensor,  # [B] int32
    num_tiles: int,
    row_size: int,
    VOCAB_SIZE: tl.constexpr,
    TILE_GROUPS: tl.constexpr,  # groups of a tile
    GROUP: tl.constexpr,
    BLOCK_TILES: tl.constexpr,
    LIST_TILE: tl.constexpr,  # groups of one step of a pass
) -> None:
    seq = tl.program_id(0).to(tl.int64)
    row_index = tl.load(rows + seq).to(tl.int64)
    row = state + row_index * row_size
    position = tl.load(positions + seq)
    tiles = tl.arange(0, BLOCK_TILES)
    is_tile = tiles < num_tiles
    places = seq * num_tiles + tiles
    values = tl.load(best_values + places, mask=is_tile, other=float("-inf"))
    candidates = tl.load(best_tokens + places, mask=is_tile, other=VOCAB_SIZE)
    token = tl.min(tl.where(values == tl.max(values, 0), candidates, VOCAB_SIZE), 0)
    # Only where all is NaN there is no best.
    token = tl.minimum(token, VOCAB_SIZE - 1)
    if is_truncated(row, VOCAB_SIZE):
        tile_peaks = tl.load(peaks + places, mask=is_tile, other=float("-inf"))
        tile_sums = tl.load(sums + places, mask=is_tile, other=0.0)
        peak = tl.max(tile_peaks, 0)
        total = tl.sum(tile_sums * tl.exp2(tile_peaks - peak), 0)
        # The choice forgets that both are aligned, without which copies would be of 4 bytes.
        source = tl.multiple_of(tl.where(is_adjusted(row, position), adjusted, logits), 16)
        source += seq * VOCAB_SIZE
        first_group = seq * num_tiles * TILE_GROUPS
        token = _first_kept(
            source, row, position, token, peak, total, group_peaks + first_group, group_lists + first_group,
            VOCAB_SIZE, LIST_TILE, GROUP, BLOCK_TILES * TILE_GROUPS,
        )  # fmt: skip
    tl.store(drawn + seq, token)
    tl.store(row + LAST_TOKEN, token)
    if tl.load(row + HAS_PENALTIES) != 0:
        count = token_counts + row_index * VOCAB_SIZE + token
        tl.store(count, tl.load(count) + 2)


@triton.jit
def _first_kept(
    source: tl.tensor,  # [VOCAB_SIZE], logits
    row: tl.tensor,
    position: tl.tensor,
    token: tl.tensor,  # the first candidate
    peak: tl.tensor,  # of scaled logits
    total: tl.tensor,  # of 2^(scaled logit - peak)
    group_peaks: tl.tensor,  # [groups]
    group_list: tl.tensor,  # [groups]
    VOCAB_SIZE: tl.constexpr,
    LIST_TILE: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_GROUPS: tl.constexpr,
) -> tl.tensor:
    """The best of the perturbed logits that truncation keeps.

    Tokens are in order of falling scaled logit, equal ones by id. Kept is a beginning of that order: the
    first `top_k`; of them those with less than `top_p` of their probability before them; of those
    the ones with at least `min_p` of the likeliest one's probability.
    """
    NUM_GROUPS: tl.constexpr = (VOCAB_SIZE + GROUP - 1) // GROUP
    scale = LOG2_E / float_word(row, TEMPERATURE)
    key = noise_key(tl.load(row + SEED_LOW), tl.load(row + SEED_HIGH), position)
    top_k, top_p, min_p = tl.load(row + TOP_K), float_word(row, TOP_P), float_word(row, MIN_P)
    groups = tl.arange(0, BLOCK_GROUPS)
    of_groups = tl.load(group_peaks + groups, mask=groups < NUM_GROUPS, other=float("-inf"))

    floor = peak * 0 + float("-inf")
    if top_k <= NUM_GROUPS:
        floor = kth_highest(of_groups, top_k, peak)
    if (top_k < VOCAB_SIZE) & (top_p < 1):
        num_listed = list_groups(of_groups, floor, group_list, NUM_GROUPS, BLOCK_GROUPS)
        total = sum_of_top_k(
            source, group_list, num_listed, top_k, floor, scale, peak, VOCAB_SIZE, LIST_TILE, GROUP
        )
    floor = tl.maximum(floor, floor_of_shares(peak, total, top_p, min_p, VOCAB_SIZE))

    value = tl.load(source + token) * scale
    if value < floor:
        # No candidate: everything down to the floor is before it.
        value = floor
        token = token * 0 + VOCAB_SIZE
    is_done = token < 0
    while is_done == 0:
        num_listed = list_groups(of_groups, value, group_list, NUM_GROUPS, BLOCK_GROUPS)
        count, mass, _, _ = before(
            source, group_list, num_listed, value, token, scale, peak, VOCAB_SIZE, LIST_TILE, GROUP
        )
        is_likely = ((mass < top_p * total) | (top_p >= 1)) & (tl.exp2(value - peak) >= min_p)
        is_done = (token < VOCAB_SIZE) & ((count == 0) | ((count < top_k) & is_likely))
        if is_done == 0:
            token = best_before(
                source, group_list, num_listed, value, token, scale, key, VOCAB_SIZE, LIST_TILE, GROUP
            )
            # Nothing is before where logits are NaN.
            is_done = token == VOCAB_SIZE
            token = tl.where(is_done, 0, token)
            value = tl.load(source + token) * scale
    return token
