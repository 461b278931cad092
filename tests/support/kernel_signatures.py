"""What each kernel is compiled for without a GPU: the types and constants of real launches."""

import itertools
from dataclasses import dataclass
from typing import Any

import torch

from tandem_kernels.decode_attention import (
    MAX_REGISTERS,
    _decode_attention_kernel,
    kernel_constants as decode_constants,
)
from tandem_kernels.decode_inputs import _decode_inputs_kernel
from tandem_kernels.embedding import _embedding_kernel
from tandem_kernels.plan_decode import _plan_kernel
from tandem_kernels.prefill_attention import (
    _prefill_attention_kernel,
    kernel_constants as prefill_constants,
    tile_shape,
)
from tandem_kernels.rms_norm import _add_rms_norm_kernel, _rms_norm_kernel
from tandem_kernels.rope_store import _rope_store_kernel
from tandem_kernels.scatter_words import _scatter_words_kernel
from tandem_kernels.silu_mul import _silu_mul_kernel
from tandem_kernels.softmax import _softmax_kernel


@dataclass(frozen=True)
class KernelCase:
    """One specialization of a kernel.

    Attributes:
        name: Says what is special about it.
        kernel: The JIT function.
        types: Of its arguments in their order, constants left out: "*bf16 *i64 i32 fp32". Pointers and
            integers are taken to be multiples of 16.
        constants: The constexpr arguments by name.
        num_warps: As launched.
        num_stages: As launched; Triton's default where the launcher gives none.
        unspecialized: Integer arguments that are `do_not_specialize`, so no known multiples.
        max_registers: Of a thread, where the launcher bounds them.
        max_spill_bytes: What a thread may spill.
        capabilities: Where the launcher would launch this.
    """

    name: str
    kernel: Any
    types: str
    constants: dict[str, int]
    num_warps: int
    num_stages: int = 3
    unspecialized: tuple[str, ...] = ()
    max_registers: int | None = None
    max_spill_bytes: int = 0
    capabilities: tuple[int, ...] = (80, 90)


def _rope(num_heads: int, num_kv_heads: int, num_pairs: int, block_pairs: int) -> dict[str, int]:
    return {
        "NUM_HEADS": num_heads,
        "NUM_KV_HEADS": num_kv_heads,
        "NUM_PAIRS": num_pairs,
        "BLOCK_HEADS": 8,
        "BLOCK_PAIRS": block_pairs,
    }


def _decode(num_heads: int, num_kv_heads: int, head_dim: int, kv_block_size: int) -> KernelCase:
    return KernelCase(
        name=f"decode-attention-{num_heads}over{num_kv_heads}-d{head_dim}-b{kv_block_size}",
        kernel=_decode_attention_kernel,
        types="*bf16 *bf16 *bf16 *i32 *i32 *i32 *bf16 *i32 *i32 *fp32 *fp32 *i32 i32 fp32 i32 i32 i32",
        constants=decode_constants(num_heads, num_kv_heads, head_dim, kv_block_size),
        num_warps=4,
        num_stages=5,
        unspecialized=("num_seqs", "table_stride"),
        max_registers=MAX_REGISTERS,
        # A few scalars at 128 registers, for a fourth program on each SM.
        max_spill_bytes=16,
    )


def _prefill(head_dim: int, kv_block_size: int, capability: int) -> KernelCase:
    tile = tile_shape(head_dim, torch.bfloat16, is_hopper=capability == 90)
    return KernelCase(
        name=f"prefill-attention-d{head_dim}-b{kv_block_size}-for-{capability}",
        kernel=_prefill_attention_kernel,
        types="*bf16 *bf16 *bf16 *i32 *i32 *i32 *i32 *bf16 i32 fp32 i32 i32 i32",
        constants=prefill_constants(32, 8, head_dim, kv_block_size, tile),
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        unspecialized=("num_seqs", "table_stride"),
        max_registers=tile.max_registers,
        capabilities=(capability,),
    )


_DECODE_SHAPES = [
    (32, 8, 64),
    (14, 2, 64),
    (12, 2, 80),
    (32, 32, 96),
    (32, 8, 128),
    (28, 4, 128),
    (32, 32, 128),
]

_ROPE_TYPES = "*bf16 *bf16 *bf16 *i32 *fp32 *bf16 *bf16 *i32 i32 i32 i32 i32 i32 i32"

CASES = [
    KernelCase(
        "rms-norm-4096", _rms_norm_kernel, "*bf16 *bf16 *bf16 i32 i32 fp32",
        {"SIZE": 4096, "BLOCK_SIZE": 4096}, num_warps=16,
    ),
    KernelCase(
        "rms-norm-head-128", _rms_norm_kernel, "*bf16 *bf16 *bf16 i32 i32 fp32",
        {"SIZE": 128, "BLOCK_SIZE": 128}, num_warps=1,
    ),
    KernelCase(
        "add-rms-norm-2048", _add_rms_norm_kernel, "*bf16 *bf16 *bf16 *bf16 i32 i32 fp32",
        {"SIZE": 2048, "BLOCK_SIZE": 2048}, num_warps=8,
    ),
    KernelCase(
        "add-rms-norm-3584", _add_rms_norm_kernel, "*bf16 *bf16 *bf16 *bf16 i32 i32 fp32",
        {"SIZE": 3584, "BLOCK_SIZE": 4096}, num_warps=16,
    ),
    KernelCase(
        "add-rms-norm-8192-fp32", _add_rms_norm_kernel, "*fp32 *fp32 *fp32 *fp32 i32 i32 fp32",
        {"SIZE": 8192, "BLOCK_SIZE": 8192}, num_warps=16,
    ),
    KernelCase("rope-store-32over8-d64", _rope_store_kernel, _ROPE_TYPES, _rope(32, 8, 32, 32), num_warps=2),
    KernelCase("rope-store-32over8-d128", _rope_store_kernel, _ROPE_TYPES, _rope(32, 8, 64, 64), num_warps=2),
    KernelCase("rope-store-14over2-d80", _rope_store_kernel, _ROPE_TYPES, _rope(14, 2, 40, 64), num_warps=2),
    KernelCase(
        "silu-mul-8192", _silu_mul_kernel, "*bf16 *bf16 i32", {"SIZE": 8192, "BLOCK_SIZE": 1024}, num_warps=4
    ),
    KernelCase(
        "softmax-128256", _softmax_kernel, "*fp32 *fp32 i32",
        {"SIZE": 128256, "BLOCK_SIZE": 8192}, num_warps=16,
    ),
    KernelCase(
        "embedding-2048", _embedding_kernel, "*i32 *bf16 *bf16",
        {"SIZE": 2048, "BLOCK_SIZE": 2048}, num_warps=8,
    ),
    KernelCase(
        "scatter-words", _scatter_words_kernel, "*i32 *i32 *i32 i32", {"BLOCK_SIZE": 256},
        num_warps=4, unspecialized=("num_words",),
    ),
    KernelCase(
        "decode-inputs", _decode_inputs_kernel, "*i32 *i32 *i32 *i32 i32 i32 i32",
        {"LAST_TOKEN": 0, "BLOCK_TABLE": 700, "KV_BLOCK_SIZE": 16, "BLOCK_B": 64},
        num_warps=2, unspecialized=("num_seqs", "row_size", "out_stride"),
    ),
    KernelCase(
        "plan-1024", _plan_kernel, "*i32 *i32 *i32 i32 i32",
        {"BLOCK_N": 32, "MIN_TILES": 4, "BLOCK_B": 1024, "BLOCK_W": 8},
        num_warps=4, unspecialized=("num_seqs", "num_workers"),
    ),
    *(_decode(*shape, kv_block_size) for shape in _DECODE_SHAPES for kv_block_size in (1, 16)),
    *(_prefill(*case) for case in itertools.product((64, 80, 128), (1, 16), (80, 90))),
]  # fmt: skip
