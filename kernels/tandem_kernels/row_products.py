"""Products of a few rows with rows of a weight: what every projection of a small batch consists of.

A program owns some rows of the weight, [N, K] as checkpoints have it, and computes their products with all
tokens. Up to 2 tokens the CUDA cores multiply, above the tensor cores do. The CUDA cores take the
root-mean-square norm of the tokens in the same pass: the products are of x times the norm's weight, and are
divided by the root afterwards. Weights are read once and leave the L2 cache first.

Where the GPU has programmatic dependent launch, a program begins while the kernel before it still runs, and
its first weights are on the way when that ends. Until `await_inputs` returns, it may touch weights only:
nothing that a kernel has written, or still reads.
"""

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def await_inputs(
    weight: tl.tensor,  # [N, K], contiguous
    rows: tl.tensor,  # [ROWS] int64, of the weight, all below N
    begin: int,  # of the columns that count
    LENGTH: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
    IS_DEPENDENT: tl.constexpr,
) -> tl.tensor:  # [ROWS, BLOCK_K] for CUDA cores
    """Returns the first tile of the weight once the kernel before this one has ended."""
    if IS_DEPENDENT:
        gdc_launch_dependents()
    if BLOCK_M <= 2:
        columns = begin + tl.arange(0, BLOCK_K)[None, :]
        tile = _tile(
            weight + rows[:, None] * K + columns, columns, 0, begin, LENGTH, K, BLOCK_K, "evict_first"
        )
    else:
        tile = tl.zeros([1, 1], tl.float32)
    if IS_DEPENDENT:
        gdc_wait()
    return tile


@triton.jit
def row_products(
    tile: tl.tensor,  # what `await_inputs` returned
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
    HAS_NORM: tl.constexpr,  # on CUDA cores only
) -> tl.tensor:  # [ROWS, BLOCK_M] float32
    """x @ weight[rows].T, or that of x's norm."""
    if BLOCK_M <= 2:
        out = _by_cuda_cores(
            tile, x, norm_weight, eps, weight, rows, num_tokens, begin, LENGTH, K, BLOCK_M, BLOCK_K, HAS_NORM
        )
    else:
        tl.static_assert(not HAS_NORM)
        out = _by_tensor_cores(x, weight, rows, num_tokens, begin, LENGTH, K, BLOCK_M, BLOCK_K)
    return out


@triton.jit
def _by_cuda_cores(
    tile: tl.tensor,
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
) -> tl.tensor:
    NUM_TILES: tl.constexpr = (LENGTH + BLOCK_K - 1) // BLOCK_K
    columns = begin + tl.arange(0, BLOCK_K)[None, :]
    weights = weight + rows[:, None] * K + columns
    sums = (tl.zeros([rows.shape[0], BLOCK_K], tl.float32),) * BLOCK_M
    squares = (tl.zeros([1, BLOCK_K], tl.float32),) * BLOCK_M
    for index in tl.static_range(NUM_TILES):
        factors = tile.to(tl.float32)
        # One tile ahead of the products.
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
    return sums[0][:, None] if BLOCK_M == 1 else tl.join(sums[0], sums[1])


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
    weight: tl.tensor,
    rows: tl.tensor,
    num_tokens: int,
    begin: int,
    LENGTH: tl.constexpr,
    K: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
) -> tl.tensor:
    columns = begin + tl.arange(0, BLOCK_K)[None, :]
    tokens = tl.arange(0, BLOCK_M)[:, None]
    weights = weight + rows[:, None] * K + columns
    values = x + tokens * K + columns
    end = tl.minimum(begin + LENGTH, K)
    out = tl.zeros([rows.shape[0], BLOCK_M], tl.float32)
    for start in tl.range(0, LENGTH, BLOCK_K):
        # Idle rows are not read again and again by all programs.
        is_token = tokens < num_tokens
        if LENGTH % BLOCK_K == 0 and K % LENGTH == 0:
            tile = tl.load(weights + start, eviction_policy="evict_first")
            part = tl.load(values + start, mask=is_token, other=0.0)
        else:
            mask = columns + start < end
            tile = tl.load(weights + start, mask=mask, other=0.0, eviction_policy="evict_first")
            part = tl.load(values + start, mask=mask & is_token, other=0.0)
        # The weight comes first: the tensor cores want 64 rows there, and take any multiple of 8 tokens.
        out = tl.dot(tile, tl.trans(part), out, input_precision="ieee")
    return out
