"""The second half of sampling: the token of each sequence, from what `sample_scan` left.

The best of the perturbed logits is the draw, unless truncation drops that token: then nothing that is
less likely is kept either, and the best of the likelier tokens is tried next, until one is kept. Whether a
token is kept takes a pass over the likelier ones, a count and a sum, and no sort. The tokens ahead of
the first candidate have at least the probability p of top-p with probability p: one pass mostly does it.
Passes read the groups of tokens whose peaks are high enough, which the scan noted.
"""

import triton
import triton.language as tl

from tandem_kernels.gumbel import noise_key, perturb
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

# Halvings that narrow the search for the k-th highest group.
_NUM_HALVINGS = tl.constexpr(12)
# Less than 2^-this of the likeliest is nothing in float32.
_MAX_DEPTH = tl.constexpr(150.0)
_STAGES = tl.constexpr(4)


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
        source = tl.where(is_adjusted(row, position), adjusted, logits) + seq * VOCAB_SIZE
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
        floor = _kth_highest(of_groups, top_k, peak)
    if (top_k < VOCAB_SIZE) & (top_p < 1):
        num_listed = _list_groups(of_groups, floor, group_list, NUM_GROUPS, BLOCK_GROUPS)
        total = _sum_of_top_k(
            source, group_list, num_listed, top_k, floor, scale, peak, VOCAB_SIZE, LIST_TILE, GROUP
        )
    floor = tl.maximum(floor, _floor_of_shares(peak, total, top_p, min_p, VOCAB_SIZE))

    value = tl.load(source + token) * scale
    if value < floor:
        # No candidate: everything down to the floor is before it.
        value = floor
        token = token * 0 + VOCAB_SIZE
    is_done = token < 0
    while is_done == 0:
        num_listed = _list_groups(of_groups, value, group_list, NUM_GROUPS, BLOCK_GROUPS)
        count, mass = _before(
            source, group_list, num_listed, value, token, scale, peak, VOCAB_SIZE, LIST_TILE, GROUP
        )
        is_likely = ((mass < top_p * total) | (top_p >= 1)) & (tl.exp2(value - peak) >= min_p)
        is_done = (token < VOCAB_SIZE) & ((count == 0) | ((count < top_k) & is_likely))
        if is_done == 0:
            token = _best_before(
                source, group_list, num_listed, value, token, scale, key, VOCAB_SIZE, LIST_TILE, GROUP
            )
            # Nothing is before where logits are NaN.
            is_done = token == VOCAB_SIZE
            token = tl.where(is_done, 0, token)
            value = tl.load(source + token) * scale
    return token


@triton.jit
def _kth_highest(
    x: tl.tensor,  # [BLOCK]
    k: tl.tensor,
    peak: tl.tensor,  # the highest
) -> tl.tensor:
    """A value that at least `k` of x reach, near the highest such one; -inf if less than `k` are finite."""
    low = tl.min(tl.where(x > float("-inf"), x, peak), 0)
    if tl.sum((x >= low).to(tl.int32), 0) < k:
        low = float("-inf")
    else:
        high = peak
        for _ in range(_NUM_HALVINGS):
            middle = 0.5 * low + 0.5 * high
            is_reached = tl.sum((x >= middle).to(tl.int32), 0) >= k
            low = tl.where(is_reached, middle, low)
            high = tl.where(is_reached, high, middle)
    return low


@triton.jit
def _floor_of_shares(
    peak: tl.tensor,
    total: tl.tensor,
    top_p: tl.tensor,
    min_p: tl.tensor,
    VOCAB_SIZE: tl.constexpr,
) -> tl.tensor:
    """Scaled logits that top-p and min-p surely drop are below this.

    Tokens of at most the (1 - top_p)/VOCAB_SIZE-th part have together at most 1 - top_p.
    """
    share = tl.maximum((1 - top_p) * total / VOCAB_SIZE, min_p)
    slack = 1e-3 + 1e-6 * tl.abs(peak)
    # 1e-30 stands for 0, whose logarithm has no floor.
    return peak + tl.log2(tl.maximum(share, 1e-30)) - slack


@triton.jit
def _list_groups(
    of_groups: tl.tensor,  # [BLOCK_GROUPS], the groups' peaks
    floor: tl.tensor,
    group_list: tl.tensor,  # [groups], written
    NUM_GROUPS: tl.constexpr,
    BLOCK_GROUPS: tl.constexpr,
) -> tl.tensor:
    """Lists the groups with anything at or above `floor`; returns how many."""
    groups = tl.arange(0, BLOCK_GROUPS)
    is_listed = (of_groups >= floor) & (groups < NUM_GROUPS)
    ends = tl.cumsum(is_listed.to(tl.int32), 0)
    # All have read the list before, and will see the new one.
    tl.debug_barrier()
    tl.store(group_list + ends - 1, groups, mask=is_listed)
    tl.debug_barrier()
    return tl.max(ends, 0)


@triton.jit
def _sum_of_top_k(
    source: tl.tensor,  # [VOCAB_SIZE]
    group_list: tl.tensor,
    num_listed: tl.tensor,
    k: tl.tensor,
    floor: tl.tensor,
    scale: tl.tensor,
    peak: tl.tensor,
    VOCAB_SIZE: tl.constexpr,
    LIST_TILE: tl.constexpr,
    GROUP: tl.constexpr,
) -> tl.tensor:
    """The sum of 2^(scaled - peak) over the k highest, which are in listed groups, by halving."""
    low = tl.maximum(floor, peak - _MAX_DEPTH)
    high = peak + 1 + 1e-6 * tl.abs(peak)
    count, mass = _before(
        source, group_list, num_listed, low, VOCAB_SIZE, scale, peak, VOCAB_SIZE, LIST_TILE, GROUP
    )
    # The k-th is mostly just above the floor.
    middle = low + (high - low) / 16
    while (count > k) & (low < middle) & (middle < high):
        new_count, new_mass = _before(
            source, group_list, num_listed, middle, VOCAB_SIZE, scale, peak, VOCAB_SIZE, LIST_TILE, GROUP
        )
        is_reached = new_count >= k
        low = tl.where(is_reached, middle, low)
        high = tl.where(is_reached, high, middle)
        count = tl.where(is_reached, new_count, count)
        mass = tl.where(is_reached, new_mass, mass)
        middle = 0.5 * low + 0.5 * high
    # Where no value parts them, the ones too many are equal to the k-th, which is `low`.
    return mass - tl.maximum(count - k, 0).to(tl.float32) * tl.exp2(low - peak)


@triton.jit
def _load_scaled(
    source: tl.tensor,  # [VOCAB_SIZE]
    group_list: tl.tensor,
    start: tl.tensor,
    num_listed: tl.tensor,
    scale: tl.tensor,
    VOCAB_SIZE: tl.constexpr,
    LIST_TILE: tl.constexpr,
    GROUP: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:  # all [LIST_TILE, GROUP]
    """Scaled logits, their tokens, and a mask, of the listed groups from `start` on."""
    index = start + tl.arange(0, LIST_TILE)
    groups = tl.load(group_list + index, mask=index < num_listed, other=0)
    tokens = groups[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    mask = (index < num_listed)[:, None] & (tokens < VOCAB_SIZE)
    return tl.load(source + tokens, mask=mask, other=float("-inf")) * scale, tokens, mask


@triton.jit
def _before(
    source: tl.tensor,  # [VOCAB_SIZE]
    group_list: tl.tensor,
    num_listed: tl.tensor,
    value: tl.tensor,
    token: tl.tensor,
    scale: tl.tensor,
    peak: tl.tensor,
    VOCAB_SIZE: tl.constexpr,
    LIST_TILE: tl.constexpr,
    GROUP: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """How many tokens are before (value, token), and the sum of their 2^(scaled - peak)."""
    counts = tl.zeros([LIST_TILE, GROUP], tl.int32)
    masses = tl.zeros([LIST_TILE, GROUP], tl.float32)
    for start in tl.range(0, num_listed, LIST_TILE, num_stages=_STAGES):
        x, tokens, mask = _load_scaled(
            source, group_list, start, num_listed, scale, VOCAB_SIZE, LIST_TILE, GROUP
        )
        is_before = ((x > value) | ((x == value) & (tokens < token))) & mask
        counts += is_before.to(tl.int32)
        masses += tl.where(is_before, tl.exp2(x - peak), 0.0)
    return tl.sum(tl.sum(counts, 1), 0), tl.sum(tl.sum(masses, 1), 0)


@triton.jit
def _best_before(
    source: tl.tensor,  # [VOCAB_SIZE]
    group_list: tl.tensor,
    num_listed: tl.tensor,
    value: tl.tensor,
    token: tl.tensor,
    scale: tl.tensor,
    key: tl.tensor,
    VOCAB_SIZE: tl.constexpr,
    LIST_TILE: tl.constexpr,
    GROUP: tl.constexpr,
) -> tl.tensor:
    """Of the tokens before (value, token) the best perturbed one; VOCAB_SIZE if there is none."""
    best = tl.full([LIST_TILE, GROUP], float("-inf"), tl.float32)
    best_tokens = tl.full([LIST_TILE, GROUP], VOCAB_SIZE, tl.int32)
    for start in tl.range(0, num_listed, LIST_TILE, num_stages=_STAGES):
        x, tokens, mask = _load_scaled(
            source, group_list, start, num_listed, scale, VOCAB_SIZE, LIST_TILE, GROUP
        )
        is_before = ((x > value) | ((x == value) & (tokens < token))) & mask
        x = perturb(x, key, tokens)
        is_better = is_before & (x > best)
        best = tl.where(is_better, x, best)
        best_tokens = tl.where(is_better, tokens, best_tokens)
    highest = tl.max(tl.max(best, 1), 0)
    return tl.min(tl.min(tl.where(best == highest, best_tokens, VOCAB_SIZE), 1), 0)
