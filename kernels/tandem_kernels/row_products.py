"""Products of a few rows with rows of a weight: what every projection of a small batch consists of.

A program owns some rows of the weight, [N, K] as checkpoints have it, and computes their products with all
tokens. The root-mean-square norm of the tokens is taken in the same pass: the products are of x times the
norm's weight, and are divided by the root afterwards. Up to 4 tokens the CUDA cores multiply, above the
tensor cores do. Weights are read once and leave the L2 cache first.

Where the GPU has programmatic dependent launch (`has_dependent_launch`), a program begins while the kernel
before it still runs. Until `gdc_wait` it may touch weights only: nothing that a kernel has written, or reads.
"""

import functools

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from tandem_kernels.projection_tiles import Tile
from tandem_kernels.rms_norm import rms_norm


def has_dependent_launch(x: torch.Tensor) -> bool:
    """Whether kernels on the device of `x` can begin before their predecessors end."""
    return x.is_cuda and _capability(x.device) >= (9, 0)


def norm_input(
    residual: torch.Tensor,  # [T, K]
    norm_weight: torch.Tensor,  # [K]
    eps: float,
    tile: Tile,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """What to multiply, and the norm's weight unless the norm is taken already.

    The tensor cores get x times the norm's weight in their own type: in float16 it could overflow.
    """
    if residual.dtype == torch.float16 and tile.has_tensor_cores:
        return rms_norm(residual, norm_weight, eps), None
    return residual, norm_weight


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


@triton.jit
def row_products(
    x: tl.tensor,  # [num_tokens, K], contiguous
    norm_weight: tl.tensor,  # [K]
    eps: float,
    weight: tl.tensor,  # [N, K], contiguous
    rows: tl.tensor,  # [ROWS] int64, of the weight, all below N
    num_tokens: int,  # at most BLOCK_M
    begin: int,  # of the columns that count
    LENGTH: tl.constexpr,  # how many columns count
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PREFETCH_K: tl.constexpr,  # columns of the rows to bring to L2 before the wait
    HAS_NORM: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> tl.tensor:  # [ROWS, BLOCK_M] float32
    """x @ weight[rows].T, or that of x's norm; on return the kernel before this one has ended."""
    if IS_DEPENDENT:
        gdc_launch_dependents()
    if BLOCK_M <= 4:
        out = _by_cuda_cores(
            x, norm_weight, eps, weight, rows, num_tokens, begin,
            LENGTH, K, BLOCK_M, BLOCK_K, HAS_NORM, IS_DEPENDENT,
        )  # fmt: skip
    else:
        out = _by_tensor_cores(
            x, norm_weight, eps, weight, rows, num_tokens, begin,
            LENGTH, K, BLOCK_M, BLOCK_K, PREFETCH_K, HAS_NORM, IS_DEPENDENT,
        )  # fmt: skip
    return out


@triton.jit
def _by_cuda_cores(
    x: tl.tensor,
    norm_weight: tl.tensor,
    eps: float,
    weight: tl.tensor,
    rows: tl.tensor,
    num_tokens: int,
    begin: int,
    LENGTH: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    HAS_NORM: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> tl.tensor:
    NUM_TILES: tl.constexpr = (LENGTH + BLOCK_K - 1) // BLOCK_K
    columns = begin + tl.arange(0, BLOCK_K)[None, :]
    weights = weight + rows[:, None] * K + columns
    # One tile ahead of the products, the first one even ahead of the kernel before this one.
    tile = _tile(weights, columns, 0, begin, LENGTH, K, BLOCK_K, "evict_first")
    if IS_DEPENDENT:
        gdc_wait()
    sums = (tl.zeros([rows.shape[0], BLOCK_K], tl.float32),) * BLOCK_M
    squares = (tl.zeros([1, BLOCK_K], tl.float32),) * BLOCK_M
    for index in tl.static_range(NUM_TILES):
        factors = tile.to(tl.float32)
        if index + 1 < NUM_TILES:
            tile = _tile(weights, columns, index + 1, begin, LENGTH, K, BLOCK_K, "evict_first")
        if HAS_NORM:
            scale = _tile(norm_weight + columns, columns, index, begin, LENGTH, K, BLOCK_K, "").to(tl.float32)
        for m in tl.static_range(BLOCK_M):
            values = x + tl.minimum(m, num_tokens - 1) * K + columns
            part = _tile(values, columns, index, begin, LENGTH, K, BLOCK_K, "").to(tl.float32)
            if HAS_NORM:
                squares = _replaced(squares, m, squares[m] + part * part)
                part *= scale
            sums = _replaced(sums, m, sums[m] + factors * part)
    for m in tl.static_range(BLOCK_M):
        total = tl.sum(sums[m], axis=1)
        if HAS_NORM:
            total *= tl.rsqrt(tl.sum(squares[m], axis=1) / K + eps)
        sums = _replaced(sums, m, total)
    if BLOCK_M == 1:
        out = sums[0][:, None]
    elif BLOCK_M == 2:
        out = tl.join(sums[0], sums[1])
    else:
        even, odd = tl.join(sums[0], sums[2]), tl.join(sums[1], sums[3])
        out = tl.join(even, odd).reshape([rows.shape[0], BLOCK_M])
    return out


@triton.jit
def _replaced(
    values: tl.tuple,
    index: tl.constexpr,
    value: tl.tensor,
) -> tl.tuple:
    return values[:index] + (value,) + values[index + 1 :]  # noqa: RUF005


@triton.jit
def _tile(
    at: tl.tensor,  # [..., BLOCK_K] addresses in the first tile
    columns: tl.tensor,  # [1, BLOCK_K] of the first tile
    index: tl.constexpr,
    begin: int,
    LENGTH: tl.constexpr,
    K: tl.constexpr,
    BLOCK_K: tl.constexpr,
    EVICTION: tl.constexpr,
) -> tl.tensor:
    """The tile at `index`; zeros behind the last column."""
    # Only the last part of a split row may reach behind the row's end.
    if (index + 1) * BLOCK_K <= LENGTH and K % LENGTH == 0:
        found = tl.load(at + index * BLOCK_K, eviction_policy=EVICTION)
    else:
        end = tl.minimum(begin + LENGTH, K)
        mask = columns + index * BLOCK_K < end
        found = tl.load(at + index * BLOCK_K, mask=mask, other=0.0, eviction_policy=EVICTION)
    return found


@triton.jit
def _by_tensor_cores(
    x: tl.tensor,
    norm_weight: tl.tensor,
    eps: float,
    weight: tl.tensor,
    rows: tl.tensor,
    num_tokens: int,
    begin: int,
    LENGTH: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    PREFETCH_K: tl.constexpr,
    HAS_NORM: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> tl.tensor:
    IS_EVEN: tl.constexpr = LENGTH % BLOCK_K == 0 and K % LENGTH == 0
    columns = begin + tl.arange(0, BLOCK_K)[None, :]
    tokens = tl.minimum(tl.arange(0, BLOCK_M), num_tokens - 1)
    weights = weight + rows[:, None] * K + columns
    values = x + tokens[:, None] * K + columns
    end = tl.minimum(begin + LENGTH, K)
    if IS_DEPENDENT:
        if PREFETCH_K > 0:
            _prefetch(weight + rows[:, None] * K + begin + tl.arange(0, PREFETCH_K // 64)[None, :] * 64)
        gdc_wait()
    out = tl.zeros([rows.shape[0], BLOCK_M], tl.float32)
    squares = tl.zeros([BLOCK_M, BLOCK_K], tl.float32)
    for start in tl.range(0, LENGTH, BLOCK_K):
        if IS_EVEN:
            tile = tl.load(weights + start, eviction_policy="evict_first")
            part = tl.load(values + start)
        else:
            mask = columns + start < end
            tile = tl.load(weights + start, mask=mask, other=0.0, eviction_policy="evict_first")
            part = tl.load(values + start, mask=mask, other=0.0)
        if HAS_NORM:
            if IS_EVEN:
                scale = tl.load(norm_weight + columns + start)
            else:
                scale = tl.load(norm_weight + columns + start, mask=columns + start < end, other=0.0)
            part = part.to(tl.float32)
            squares += part * part
            part = (part * scale.to(tl.float32)).to(tile.dtype)
        # The weight comes first: the tensor cores want 64 rows there, and take any multiple of 8 tokens.
        out = tl.dot(tile, tl.trans(part), out, input_precision="ieee")
    if HAS_NORM:
        out *= tl.rsqrt(tl.sum(squares, axis=1) / K + eps)[None, :]
    return out


@triton.jit
def _prefetch(
    at: tl.tensor,  # addresses of 128 bytes each
) -> None:
    tl.inline_asm_elementwise(
        "cp.async.bulk.prefetch.L2.global [$1], 128; mov.u32 $0, 0;",
        "=r,l",
        [at],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
