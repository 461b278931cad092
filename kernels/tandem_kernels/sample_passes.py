"""Passes over the likelier tokens of one sequence, from groups of tokens whose peaks are known."""

import triton
import triton.language as tl

from tandem_kernels.gumbel import perturb

_STAGES = tl.constexpr(4)


@triton.jit
def list_groups(
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
def before(
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
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """How many tokens are before (value, token), the sum of their 2^(scaled - peak), the lowest scaled logit
    among them, and the highest among the rest."""
    counts = tl.zeros([LIST_TILE, GROUP], tl.int32)
    masses = tl.zeros([LIST_TILE, GROUP], tl.float32)
    lowest = tl.full([LIST_TILE, GROUP], float("inf"), tl.float32)
    highest = tl.full([LIST_TILE, GROUP], float("-inf"), tl.float32)
    for start in tl.range(0, num_listed, LIST_TILE, num_stages=_STAGES):
        x, tokens, mask = _load_scaled(
            source, group_list, start, num_listed, scale, VOCAB_SIZE, LIST_TILE, GROUP
        )
        is_before = ((x > value) | ((x == value) & (tokens < token))) & mask
        counts += is_before.to(tl.int32)
        masses += tl.where(is_before, tl.exp2(x - peak), 0.0)
        lowest = tl.minimum(lowest, tl.where(is_before, x, float("inf")))
        highest = tl.maximum(highest, tl.where(is_before, float("-inf"), x))
    return (
        tl.sum(tl.sum(counts, 1), 0),
        tl.sum(tl.sum(masses, 1), 0),
        tl.min(tl.min(lowest, 1), 0),
        tl.max(tl.max(highest, 1), 0),
    )


@triton.jit
def best_before(
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
