"""Tile sizes of the projections of small batches, and above which batch cuBLAS takes over."""

from dataclasses import dataclass

import torch
import triton

from tandem_kernels.projection_table import MEASURED

# Batches are rounded up to one of these, each with kernels of its own.
BATCH_BUCKETS = (1, 2, 4, 16, 32, 64)
# The largest bucket whose products the CUDA cores do.
_CUDA_CORE_TOKENS = 4
# Where nothing was measured. An H200 reads a weight as fast for 16 tokens as for one.
_DEFAULT_FUSED_TOKENS = 16
_PREFETCH_STEP = 64


@dataclass(frozen=True)
class Tile:
    """How a kernel of `row_products` is cut.

    Attributes:
        block_m: Tokens, at least those of the batch.
        rows: Of the weight, per program.
        block_k: Columns of a step.
        num_warps: Of a program.
        num_stages: Steps in flight, for the tensor cores.
        split_k: Programs that share the columns of the same rows, at most.
        prefetch_k: Columns that are brought to L2 while the kernel before still runs.
    """

    block_m: int
    rows: int
    block_k: int
    num_warps: int
    num_stages: int = 1
    split_k: int = 1
    prefetch_k: int = 0

    @property
    def has_tensor_cores(self) -> bool:
        """Whether the tensor cores multiply."""
        return self.block_m > _CUDA_CORE_TOKENS

    def constants(self, size: int) -> dict[str, int]:
        """The kernels' compile-time arguments for weights of `size` columns."""
        length = size
        if self.split_k > 1:
            length = triton.cdiv(triton.cdiv(size, self.split_k), self.block_k) * self.block_k
        can_prefetch = size % length == size % _PREFETCH_STEP == 0 and self.prefetch_k <= length
        return {
            "K": size,
            "LENGTH": length,
            "ROWS": self.rows,
            "BLOCK_M": self.block_m,
            "BLOCK_K": self.block_k,
            "PREFETCH_K": self.prefetch_k if can_prefetch else 0,
        }


def projection_tile(operation: str, x: torch.Tensor, weight: torch.Tensor) -> Tile | None:
    """The tile for `x` [T, K] and `weight` [N, K]; None where cuBLAS is faster, or the only way.

    Args:
        operation: Its name, as the table has it.
        x: What is multiplied, or normed first.
        weight: What it is multiplied with.
    """
    num_tokens = x.shape[0]
    block_m = next((bucket for bucket in BATCH_BUCKETS if num_tokens <= bucket), None)
    if block_m is None or num_tokens == 0:
        return None
    # float32 has no tensor cores of its precision.
    if x.dtype == torch.float32 and block_m > _CUDA_CORE_TOKENS:
        return None
    num_rows, size = weight.shape
    if (operation, size, num_rows) not in MEASURED:
        return default_tile(operation, block_m, size)
    entry = MEASURED[operation, size, num_rows].get(block_m)
    return None if entry is None else Tile(*entry)


def default_tile(operation: str, block_m: int, size: int) -> Tile | None:
    """The tile of a shape that nobody measured."""
    if block_m > _DEFAULT_FUSED_TOKENS:
        return None
    columns = max(triton.next_power_of_2(size), 16)
    if block_m <= _CUDA_CORE_TOKENS:
        # A thread holds 8 columns, 16 bytes, of each row.
        block_k = min(columns, 1024)
        rows = 4 if block_m <= 2 else 2
        return Tile(block_m, rows, block_k, num_warps=max(block_k // 256, 1))
    rows = 32 if operation == "linear_residual" else 64
    return Tile(block_m, rows, min(columns, 128), num_warps=4, num_stages=4)
