"""What each kernel is compiled for without a GPU: the types and constants of real launches."""

import itertools
from dataclasses import astuple, dataclass
from typing import Any

import torch

from tandem_kernels.decode_attention import (
    MAX_REGISTERS,
    NUM_STAGES,
    NUM_WARPS,
    _decode_attention_kernel,
    kernel_constants as decode_constants,
)
from tandem_kernels.decode_inputs import _decode_inputs_kernel
from tandem_kernels.decode_plan import tile_tokens
from tandem_kernels.embedding import _embedding_kernel
from tandem_kernels.gate_up_silu import (
    NUM_STAGES as GATE_UP_STAGES,
    NUM_WARPS as GATE_UP_WARPS,
    _gate_up_silu_kernel,
    kernel_constants as many_gate_up_constants,
)
from tandem_kernels.head_norm_rope_store import _head_norm_rope_store_kernel
from tandem_kernels.layer_norm import _layer_norm_kernel
from tandem_kernels.linear import _linear_kernel, kernel_constants as linear_constants
from tandem_kernels.norm_gate_up_silu import _norm_gate_up_silu_kernel, kernel_constants as gate_up_constants
from tandem_kernels.norm_qkv_rope_store import _norm_qkv_rope_store_kernel, kernel_constants as qkv_constants
from tandem_kernels.plan_decode import _plan_kernel
from tandem_kernels.prefill_attention import _prefill_attention_kernel, kernel_constants as prefill_constants
from tandem_kernels.prefill_tiles import tile_shape
from tandem_kernels.projection_tiles import BATCH_BUCKETS, MEASURED, Tile, default_tile
from tandem_kernels.quick_gelu import _quick_gelu_kernel
from tandem_kernels.rms_norm import _add_rms_norm_kernel, _rms_norm_kernel
from tandem_kernels.rope_store import _rope_store_kernel
from tandem_kernels.sample import MAX_REGISTERS as SAMPLE_REGISTERS, pick_constants, scan_constants
from tandem_kernels.sample_pick import _pick_kernel
from tandem_kernels.sample_scan import _scan_kernel
from tandem_kernels.scatter_words import _scatter_words_kernel
from tandem_kernels.sequence_state import StateLayout
from tandem_kernels.silu_mul import _silu_mul_kernel
from tandem_kernels.softmax import _softmax_kernel

MAX_SHARED_BYTES = {80: 166_912, 90: 232_448}  # of one block of threads


@dataclass(frozen=True)
class KernelCase:
    """One specialization of a kernel.

    Attributes:
        name: Says what is special about it.
        kernel: The JIT function.
        types: Of its arguments in their order, constants left out: "*bf16 *i64 i32 fp32". Pointers and
            integers are taken to be multiples of 16.
        constants: The constexpr arguments by name. IS_DEPENDENT, where left out, follows the capability.
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
        types="*bf16 *bf16 *bf16 *i32 *bf16 *i32 *i32 *fp32 *fp32 *i32 fp32 i32 i32 i32",
        constants=decode_constants(num_heads, num_kv_heads, head_dim, kv_block_size, tile_tokens(head_dim)),
        num_warps=NUM_WARPS,
        num_stages=NUM_STAGES,
        unspecialized=("table_stride",),
        max_registers=MAX_REGISTERS,
        # A few scalars at 128 registers, for a fourth program on each SM.
        max_spill_bytes=16,
    )


def _prefill(
    head_dim: int, kv_block_size: int, capability: int, *, is_large: bool, is_fresh: bool = False
) -> KernelCase:
    is_hopper = capability == 90
    tile = tile_shape(head_dim, torch.bfloat16, is_hopper=is_hopper, is_fresh=is_fresh, is_large=is_large)
    kv = f"tensordesc<bf16[{tile.block_n},{head_dim}]>" if is_fresh else "*bf16"
    place = "fresh" if is_fresh else f"b{kv_block_size}"
    return KernelCase(
        name=f"prefill-attention-d{head_dim}-{place}-{'large' if is_large else 'small'}-for-{capability}",
        kernel=_prefill_attention_kernel,
        types=f"*bf16 {kv} {kv} *i32 *i32 *i32 *i32 *bf16 i32 fp32 i32 i32 i32",
        constants=prefill_constants(32, 8, head_dim, kv_block_size, tile, is_fresh),
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        unspecialized=("num_seqs", "table_stride"),
        max_registers=tile.max_registers,
        # For a second program on each SM; less than it gains.
        max_spill_bytes=80 if tile.max_registers else 0,
        capabilities=(capability,),
    )


def _linear(size: int, num_rows: int, tile: Tile, capability: int, is_head: bool) -> KernelCase:
    out = "*fp32" if is_head else "*bf16"
    # A head's norm is taken on the way by CUDA cores; other projections have none.
    has_norm = is_head and not tile.has_tensor_cores
    constants = linear_constants(size, num_rows, tile, has_norm, not is_head, capability >= 90)
    workspace = "*fp32 *i32" if constants["SPLIT_K"] > 1 else f"{out} {out}"
    types = f"*bf16 *bf16 *bf16 {out} {workspace} fp32 i32"
    return _projection(f"linear-{size}-{num_rows}", _linear_kernel, types, constants, tile, capability)


def _gate_up(hidden_size: int, size: int, tile: Tile, capability: int) -> KernelCase:
    constants = gate_up_constants(hidden_size, size, tile, not tile.has_tensor_cores, capability >= 90)
    types = "*bf16 *bf16 *bf16 *bf16 fp32 i32"
    name = f"norm-gate-up-silu-{hidden_size}-{size}"
    return _projection(name, _norm_gate_up_silu_kernel, types, constants, tile, capability)


def _many_gate_up(hidden_size: int, size: int) -> KernelCase:
    constants = many_gate_up_constants(hidden_size, size)
    m, n, k = (constants[f"BLOCK_{axis}"] for axis in "MNK")
    return KernelCase(
        name=f"gate-up-silu-{hidden_size}-{size}",
        kernel=_gate_up_silu_kernel,
        types=f"tensordesc<bf16[{m},{k}]> tensordesc<bf16[2,{n},{k}]> tensordesc<bf16[{m},{n}]> i32 i32",
        constants=constants,
        num_warps=GATE_UP_WARPS,
        num_stages=GATE_UP_STAGES,
        unspecialized=("num_rows", "num_tiles"),
        capabilities=(90,),
    )


def _qkv(hidden_size: int, heads: tuple[int, int, int], tile: Tile, capability: int) -> KernelCase:
    has_norm = not tile.has_tensor_cores
    constants = qkv_constants(hidden_size, heads, tile, has_norm, heads[0] == 14, capability >= 90)
    types = "*bf16 *bf16 *bf16 *bf16 *i32 *fp32 *bf16 *bf16 *bf16 *i32 fp32 i32"
    name = f"norm-qkv-rope-store-{hidden_size}-{heads[0]}over{heads[1]}-d{heads[2]}"
    return _projection(name, _norm_qkv_rope_store_kernel, types, constants, tile, capability)


def _projection(
    name: str, kernel: Any, types: str, constants: dict[str, int], tile: Tile, capability: int
) -> KernelCase:
    return KernelCase(
        name=f"{name}-x{tile.block_m}-{tile.rows}-{tile.block_k}-{tile.num_warps}-{tile.split_k}",
        kernel=kernel,
        types=types,
        constants=constants,
        num_warps=tile.num_warps,
        num_stages=tile.num_stages,
        unspecialized=("num_tokens",),
        capabilities=(capability,),
    )


def _projections(size: int, num_rows: int, operation: str, heads: tuple[int, int, int]) -> list[KernelCase]:
    """The tiles of all batches, one case for each that differs."""
    measured = MEASURED.get((operation, size, num_rows), {})
    tiles = {Tile(*entry) for entry in measured.values() if entry is not None}
    if not measured:
        tiles = {
            tile for bucket in BATCH_BUCKETS if (tile := default_tile(operation, bucket, num_rows, size))
        }
    cases = []
    for whole, capability in itertools.product(sorted(tiles, key=astuple), (80, 90)):
        tile = whole.within(MAX_SHARED_BYTES[capability])
        if operation == "norm_qkv_rope_store":
            cases.append(_qkv(size, heads, tile, capability))
        elif operation == "norm_gate_up_silu":
            cases.append(_gate_up(size, num_rows // 2, tile, capability))
        else:
            cases.append(_linear(size, num_rows, tile, capability, operation == "norm_head"))
    return cases


# Columns, rows, operation, heads: Llama-3.2-1B, Llama-3.1-8B, then odd sizes that have no entries.
_PROJECTIONS = [
    (2048, 3072, "norm_qkv_rope_store", (32, 8, 64)),
    (2048, 2048, "linear_residual", (0, 0, 0)),
    (2048, 16384, "norm_gate_up_silu", (0, 0, 0)),
    (8192, 2048, "linear_residual", (0, 0, 0)),
    (2048, 128256, "norm_head", (0, 0, 0)),
    (4096, 6144, "norm_qkv_rope_store", (32, 8, 128)),
    (4096, 4096, "linear_residual", (0, 0, 0)),
    (4096, 28672, "norm_gate_up_silu", (0, 0, 0)),
    (14336, 4096, "linear_residual", (0, 0, 0)),
    (4096, 128256, "norm_head", (0, 0, 0)),
    (896, 1152, "norm_qkv_rope_store", (14, 2, 64)),
    (112, 96, "linear_residual", (0, 0, 0)),
    (960, 5120, "norm_gate_up_silu", (0, 0, 0)),
]

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

_SAMPLE_TYPES = "*fp32 *fp32 *i32 *i32 *i32 *i32 *fp32 *i32 *fp32 *fp32 *fp32"
_STATE_LAYOUT = StateLayout(max_stop_ids=66, max_biases=300, max_blocks=512)


def _sample(vocab_size: int) -> list[KernelCase]:
    return [
        KernelCase(
            f"sample-scan-{vocab_size}", _scan_kernel, f"{_SAMPLE_TYPES} i32",
            scan_constants(vocab_size, _STATE_LAYOUT), num_warps=8,
            unspecialized=("rows", "positions", "row_size"), max_registers=SAMPLE_REGISTERS,
        ),
        KernelCase(
            f"sample-pick-{vocab_size}", _pick_kernel, f"{_SAMPLE_TYPES} *i32 *i32 i32 i32",
            pick_constants(vocab_size), num_warps=16,
            unspecialized=("rows", "positions", "num_tiles", "row_size"), max_registers=SAMPLE_REGISTERS,
            # Some scalars of the loop over candidates, for a second program on each SM.
            max_spill_bytes=32,
        ),
    ]  # fmt: skip


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
    KernelCase(
        "layer-norm-1024", _layer_norm_kernel, "*bf16 *bf16 *bf16 *bf16 *bf16 fp32",
        {"SIZE": 1024, "BLOCK_SIZE": 1024, "ADDS": 0}, num_warps=4,
    ),
    KernelCase(
        "add-layer-norm-1024", _layer_norm_kernel, "*bf16 *bf16 *bf16 *bf16 *bf16 fp32",
        {"SIZE": 1024, "BLOCK_SIZE": 1024, "ADDS": 1}, num_warps=4,
    ),
    KernelCase("quick-gelu", _quick_gelu_kernel, "*bf16 *bf16 i32", {"BLOCK_SIZE": 2048}, num_warps=8),
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
        "plan-1024", _plan_kernel, "*i32 *i32 *i32 *i32 i32 i32",
        {
            "TILE_TOKENS": 32, "SPLIT_FROM": 3, "SPLIT_BELOW": 16, "MAX_LONGER": 3,
            "BLOCK_B": 1024, "BLOCK_W": 8,
        },
        num_warps=4, unspecialized=("num_seqs", "num_workers"),
    ),
    KernelCase(
        "head-norm-rope-store-16over8-d128", _head_norm_rope_store_kernel,
        "*bf16 *bf16 *bf16 *i32 *fp32 *bf16 *bf16 *i32 fp32",
        {"NUM_HEADS": 16, "NUM_KV_HEADS": 8, "NUM_PAIRS": 64, "BLOCK_PAIRS": 64, "IS_DEPENDENT": True},
        num_warps=1, capabilities=(90,),
    ),
    *(case for projection in _PROJECTIONS for case in _projections(*projection)),
    *(_many_gate_up(*sizes) for sizes in ((2048, 8192), (4096, 14336), (896, 4864), (200, 136))),
    *(_decode(*shape, kv_block_size) for shape in _DECODE_SHAPES for kv_block_size in (1, 16)),
    *(_prefill(*case, 90, is_large=True) for case in itertools.product((64, 80, 128), (1, 16))),
    *(_prefill(*case, is_large=False) for case in itertools.product((64, 80, 128), (1, 16), (80, 90))),
    *(_prefill(head_dim, 16, 90, is_large=True, is_fresh=True) for head_dim in (64, 128)),
    *(case for vocab_size in (32000, 128256, 151936) for case in _sample(vocab_size)),
]  # fmt: skip
