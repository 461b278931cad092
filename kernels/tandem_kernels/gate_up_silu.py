"""silu(gate) * up of many tokens on Hopper, without gates and ups in memory: a kernel in cuBLAS's place.

Each program walks over tiles of 128 x 128 of the result. The copy engine (TMA) brings a tile of x and, as one
tile of 256 rows, the gates and the ups of the same columns, so that one product has both; where it ends they
lie in the same thread. While a tile is finished the next one's inputs are on their way (flattened loop).
"""

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from tandem_kernels.gpu import is_hopper, num_sms

# 3,968 tokens on an H200: 1,373 us for 4096 to 2 x 14336, 1,416 by cuBLAS and silu_mul; 373 and 435 us
# for 2048 to 2 x 8192. Groups of 6 or 32, 4 stages, and a product each for gates and ups are slower.
NUM_WARPS, NUM_STAGES = 8, 3
_BLOCK_M, _BLOCK_N, _BLOCK_K = 128, 128, 64
_GROUP = 16
# Up to so many tokens cuBLAS has smaller tiles, which win where the last programs would find no work for most
# of their time; steps of so many tokens are padded to few sizes.
_FEW_TOKENS = 1024
_LEAST_TOKENS = 256
_LEAST_SHARE = 0.9


def has_gate_up_silu(
    x: torch.Tensor,  # [T, hidden_size]
    gate_up_weight: torch.Tensor,  # [2 * size, hidden_size]
) -> bool:
    """Whether `gate_up_silu` can compute this, and is the fastest way."""
    (num_tokens, hidden_size), size = x.shape, gate_up_weight.shape[0] // 2
    # The copy engine wants rows of a multiple of 16 bytes, and the tensor cores types of 16 bits.
    is_possible = x.itemsize == 2 and hidden_size % 8 == size % 8 == 0
    if not is_hopper(x) or not is_possible or num_tokens < _LEAST_TOKENS:
        return False
    num_tiles, num_programs = _num_tiles(num_tokens, size), num_sms(x.device)
    share = num_tiles / (triton.cdiv(num_tiles, num_programs) * num_programs)
    return num_tokens > _FEW_TOKENS or share >= _LEAST_SHARE


def gate_up_silu(
    x: torch.Tensor,  # [T, hidden_size], contiguous
    gate_up_weight: torch.Tensor,  # [2 * size, hidden_size]: gates, then ups; contiguous
) -> torch.Tensor:  # [T, size]
    """silu(x @ gates.T) * (x @ ups.T), rounded once."""
    assert x.is_contiguous()
    assert gate_up_weight.is_contiguous()
    (num_tokens, hidden_size), size = x.shape, gate_up_weight.shape[0] // 2
    out = torch.empty(num_tokens, size, dtype=x.dtype, device=x.device)
    num_tiles = _num_tiles(num_tokens, size)
    num_programs = 3 if x.is_cpu else num_sms(x.device)  # the interpreter has no SMs
    _gate_up_silu_kernel[(min(num_tiles, num_programs),)](
        TensorDescriptor.from_tensor(x, [_BLOCK_M, _BLOCK_K]),
        TensorDescriptor.from_tensor(gate_up_weight.view(2, size, hidden_size), [2, _BLOCK_N, _BLOCK_K]),
        TensorDescriptor.from_tensor(out, [_BLOCK_M, _BLOCK_N]),
        triton.cdiv(num_tokens, _BLOCK_M),
        num_tiles,
        **kernel_constants(hidden_size, size),
        num_warps=NUM_WARPS,
        num_stages=NUM_STAGES,
    )
    return out


def kernel_constants(hidden_size: int, size: int) -> dict[str, int]:
    """The kernel's compile-time arguments."""
    return {
        "K": hidden_size,
        "NUM_COLUMNS": triton.cdiv(size, _BLOCK_N),
        "BLOCK_M": _BLOCK_M,
        "BLOCK_N": _BLOCK_N,
        "BLOCK_K": _BLOCK_K,
        "GROUP": _GROUP,
    }


def _num_tiles(num_tokens: int, size: int) -> int:
    return int(triton.cdiv(num_tokens, _BLOCK_M) * triton.cdiv(size, _BLOCK_N))


@triton.jit(do_not_specialize=["num_rows", "num_tiles"])
def _gate_up_silu_kernel(
    x: tl.tensor,  # described [T, K]
    weight: tl.tensor,  # described [2, size, K]
    out: tl.tensor,  # described [T, size]
    num_rows: int,  # of tiles
    num_tiles: int,
    K: tl.constexpr,
    NUM_COLUMNS: tl.constexpr,  # of tiles
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP: tl.constexpr,
) -> None:
    for tile in tl.range(tl.program_id(0), num_tiles, tl.num_programs(0), flatten=True):
        # Column by column within GROUP rows of tiles, so that programs share what they read in L2.
        first = tile // (GROUP * NUM_COLUMNS) * GROUP
        height = tl.minimum(num_rows - first, GROUP)
        place = tile % (GROUP * NUM_COLUMNS)
        token = (first + place % height) * BLOCK_M
        column = place // height * BLOCK_N
        acc = tl.zeros([BLOCK_M, 2 * BLOCK_N], tl.float32)
        for k in range(0, K, BLOCK_K):
            both = weight.load([0, column, k]).reshape(2 * BLOCK_N, BLOCK_K)
            acc = tl.dot(x.load([token, k]), both.T, acc)
        gate, up = acc.reshape(BLOCK_M, 2, BLOCK_N).permute(0, 2, 1).split()
        out.store([token, column], (gate / (1.0 + tl.exp(-gate)) * up).to(out.dtype))
