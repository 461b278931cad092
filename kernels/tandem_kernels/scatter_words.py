"""Changes of the state table: words to their places, all in one launch."""

import torch
import triton
import triton.language as tl

_BLOCK_SIZE = 256


def scatter_words(
    target: torch.Tensor,  # [size] int32, written
    places: torch.Tensor,  # [num_words] int32, each at most once
    words: torch.Tensor,  # [num_words] int32
) -> None:
    """See `reference.scatter_words`."""
    num_words = len(places)
    grid = (triton.cdiv(num_words, _BLOCK_SIZE),)
    _scatter_words_kernel[grid](target, places, words, num_words, _BLOCK_SIZE, num_warps=4)


@triton.jit(do_not_specialize=["num_words"], do_not_specialize_on_alignment=["places", "words"])
def _scatter_words_kernel(
    target: tl.tensor,  # [size]
    places: tl.tensor,  # [num_words]
    words: tl.tensor,  # [num_words]
    num_words: int,
    BLOCK_SIZE: tl.constexpr,
) -> None:
    index = tl.program_id(0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
    mask = index < num_words
    place = tl.load(places + index, mask=mask, other=0)
    tl.store(target + place, tl.load(words + index, mask=mask, other=0), mask=mask)
