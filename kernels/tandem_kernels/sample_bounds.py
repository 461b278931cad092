"""What truncation makes of the rows' top_k, top_p and min_p: bounds, without a sort."""

import triton
import triton.language as tl

from tandem_kernels.sample_passes import before

# Halvings that narrow the search for the k-th highest group.
_NUM_HALVINGS = tl.constexpr(12)
# Less than 2^-this of the likeliest is nothing in float32.
_MAX_DEPTH = tl.constexpr(150.0)


@triton.jit
def kth_highest(
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
def floor_of_shares(
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
def sum_of_top_k(
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
    """The sum of 2^(scaled - peak) over the k highest, which are in listed groups.

    The k-th highest is sought by halving between values that there are, from `low` to `high`.
    """
    start = tl.maximum(floor, peak - _MAX_DEPTH)
    count, mass, low, _ = before(
        source, group_list, num_listed, start, VOCAB_SIZE, scale, peak, VOCAB_SIZE, LIST_TILE, GROUP
    )
    high = peak
    # The k-th is mostly just above the floor.
    middle = low + (high - low) / 16
    while (count > k) & (low < high):
        middle = tl.where(middle > low, middle, high)
        new_count, new_mass, least, highest_of_rest = before(
            source, group_list, num_listed, middle, VOCAB_SIZE, scale, peak, VOCAB_SIZE, LIST_TILE, GROUP
        )
        if new_count >= k:
            low, count, mass = least, new_count, new_mass
        else:
            high = highest_of_rest
        middle = 0.5 * low + 0.5 * high
    # Those too many are equal to the k-th.
    return mass - tl.maximum(count - k, 0).to(tl.float32) * tl.exp2(low - peak)
