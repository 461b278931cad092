"""Probabilities of rows of logits."""

import torch
import triton
import triton.language as tl

_MAX_BLOCK_SIZE = 8192


def softmax(
    logits: torch.Tensor,  # [B, vocab_size], the last axis contiguous
) -> torch.Tensor:  # [B, vocab_size] float32
    """See `reference.softmax`. One program a row, which reads the row twice, the second time from L2."""
    assert logits.stride(-1) == 1
    num_rows, size = logits.shape
    out = torch.empty(num_rows, size, dtype=torch.float32, device=logits.device)
    block_size = min(triton.next_power_of_2(size), _MAX_BLOCK_SIZE)
    num_warps = min(max(block_size // 512, 1), 16)
    _softmax_kernel[(num_rows,)](logits, out, logits.stride(0), size, block_size, num_warps=num_warps)
    return out


@triton.jit
def _softmax_kernel(
    logits: tl.tensor,  # [B, SIZE]
    out: tl.tensor,  # [B, SIZE] float32, contiguous
    logits_stride: int,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
) -> None:
    """A running maximum and sum a lane (Milakov and Gimelshein, 2018); the lanes meet at the end."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK_SIZE)
    source, target = logits + row * logits_stride, out + row * SIZE
    # The lowest float32 stands for -inf: the difference of two infinities would be NaN.
    peaks = tl.full([BLOCK_SIZE], -3.4028234e38, tl.float32)
    sums = tl.zeros([BLOCK_SIZE], tl.float32)
    for start in range(0, SIZE, BLOCK_SIZE):
        mask = start + columns < SIZE
        part = tl.load(source + start + columns, mask=mask, other=float("-inf")).to(tl.float32)
        higher = tl.maximum(peaks, part)
        sums = sums * tl.exp(peaks - higher) + tl.exp(part - higher)
        peaks = higher
    peak = tl.max(peaks, axis=0)
    total = tl.sum(sums * tl.exp(peaks - peak), axis=0)
    for start in range(0, SIZE, BLOCK_SIZE):
        mask = start + columns < SIZE
        part = tl.load(source + start + columns, mask=mask, other=float("-inf")).to(tl.float32)
        tl.store(target + start + columns, tl.exp(part - peak) / total, mask=mask)
