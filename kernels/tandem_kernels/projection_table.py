"""Measured tiles of the projections of small batches. Written by benchmarks/kernels/projection_sweep.py."""

# The fields of `Tile`: block_m, rows, block_k, num_warps, num_stages, split_k, prefetch_k.
Entry = tuple[int, int, int, int, int, int, int]

# By operation, columns and rows of the weight; then by bucket of the batch, None where cuBLAS is faster.
MEASURED: dict[tuple[str, int, int], dict[int, Entry | None]] = {}
