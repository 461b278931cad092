"""Tile sizes of the projections of small batches, and above which batch cuBLAS takes over."""

from dataclasses import dataclass, replace

import torch
import triton

from tandem_kernels.gpu import shared_bytes
from tandem_kernels.projection_table import MEASURED

# Batches are rounded up to one of these, each with kernels of its own.
BATCH_BUCKETS = (1, 2, 16, 32, 64, 128)
# The largest bucket whose products the CUDA cores do. For 4 tokens tensor cores are as fast on an H200, and
# the programs of one warp that did best alone took 33 % longer than they in a whole step of Llama-3.2-1B.
_CUDA_CORE_TOKENS = 2
# Of one program, for what the compiler adds to the tiles.
_SPARE_SHARED_BYTES = 8 << 10


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
    """

    block_m: int
    rows: int
    block_k: int
    num_warps: int
    num_stages: int = 1
    split_k: int = 1

    @property
    def has_tensor_cores(self) -> bool:
        """Whether the tensor cores multiply."""
        return self.block_m > _CUDA_CORE_TOKENS

    def within(self, shared_bytes: int) -> "Tile":
        """This tile with as many stages as fit the shared memory, for types of 16 bits."""
        if not self.has_tensor_cores:
            return self
        stage_bytes = (self.rows + self.block_m) * self.block_k * 2
        fitting = (shared_bytes - _SPARE_SHARED_BYTES) // stage_bytes
        return replace(self, num_stages=max(min(self.num_stages, fitting), 1))

    def constants(self, size: int) -> dict[str, int]:
        """The kernels' compile-time arguments for weights of `size` columns."""
        length = size
        if self.split_k > 1:
            length = triton.cdiv(triton.cdiv(size, self.split_k), self.block_k) * self.block_k
        return {
            "K": size,
            "LENGTH": length,
            "ROWS": self.rows,
            "BLOCK_M": self.block_m,
            "BLOCK_K": self.block_k,
        }


def projection_tile(operation: str, x: torch.Tensor, weight: torch.Tensor) -> Tile | None:
    """The tile for `x` [T, K] and `weight` [N, K]; None where cuBLAS is faster, or the only way.

    Args:
        operation: Its name, as the table has it.
        x: What is multiplied, or normed first.
        weight: What it is multiplied with.
    """
    num_tokens = x.shape[0]
    bucket = next((bucket for bucket in BATCH_BUCKETS if num_tokens <= bucket), None)
    if bucket is None or num_tokens == 0:
        return None
    num_rows, size = weight.shape
    # Tensor cores have no products of float32's precision.
    if x.dtype == torch.float32:
        return _cuda_core_tile(bucket, num_rows, size) if bucket <= _CUDA_CORE_TOKENS else None
    if (operation, size, num_rows) in MEASURED:
        entry = MEASURED[operation, size, num_rows][bucket]
        tile = None if entry is None else Tile(*entry)
    else:
        tile = default_tile(operation, bucket, num_rows, size)
    return tile.within(shared_bytes(x.device)) if tile is not None and not x.is_cpu else tile


def default_tile(operation: str, bucket: int, num_rows: int, size: int) -> Tile | None:
    """The tile of a shape that nobody measured: what did well on an H200 for shapes like it."""
    if bucket <= _CUDA_CORE_TOKENS:
        return _cuda_core_tile(bucket, num_rows, size)
    # cuBLAS takes all of the largest batches, and of the next ones those with few rows.
    if bucket > 64 or (bucket == 64 and operation in ("linear_residual", "norm_qkv_rope_store")):
        return None
    return _tensor_core_tile(operation, bucket, num_rows, size)


def _cuda_core_tile(block_m: int, num_rows: int, size: int) -> Tile:
    # A thread holds 16 columns of each row, or 8 of two tokens: whole rows are on their way at once. Where a
    # row's end is masked, the threads behind it are idle; more and shorter steps are slower even so.
    per_thread = 16 // block_m
    block_k = max(256, min(4096 // block_m, triton.next_power_of_2(size)))
    # The compiler loads very long rows at once too: fewer of them leave registers for a second program.
    rows = 4 if num_rows >= 2048 and size <= 16384 else 2
    return Tile(block_m, rows, block_k, max(block_k // (32 * per_thread), 1))


def _tensor_core_tile(operation: str, block_m: int, num_rows: int, size: int) -> Tile:
    # The longest steps that do not reach over the row's end, of those that suit the batch.
    block_k = max(16, min(128, triton.next_power_of_2(size)))
    if operation == "linear_residual":
        # About one program an SM, and at least two steps for each.
        split = next(split for split in (4, 2, 1) if split == 1 or num_rows * split <= 8192)
        split = min(split, max(size // (2 * block_k), 1))
        return Tile(block_m, 64, block_k, 4, 6, split)
    if operation == "norm_qkv_rope_store":
        rows = 64 if num_rows >= 5632 else 32
        return Tile(block_m, rows, block_k, 4, 6 if block_m == 16 else 4)
    if operation == "norm_head":
        return Tile(block_m, 128 if block_m == 16 else 64, block_k, 4, 3 if block_m == 16 else 4)
    return Tile(block_m, 128 if block_m == 64 else 64, block_k, 4, 3 if block_m == 64 else 4)
