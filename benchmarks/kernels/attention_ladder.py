"""What each step of attention's history buys: naive, flash 1, flash 2, flash-decoding, and torch beside them.

    python -m benchmarks.kernels.attention_ladder

Needs an NVIDIA GPU. Prefill is one prompt, causal. Naive writes all scores to memory. Flash 1 keeps them in
tiles and carries the softmax along, but masks and divides at every tile. Flash 2 divides once, at the end,
and masks on the diagonal only; ours reads keys and values from the block pool besides. At decode each
sequence has one query: flash 2 has one program a sequence and head, which leaves most of the GPU idle at
small batches and waits for the longest sequence at any; flash-decoding splits the contexts evenly.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import triton
import triton.language as tl

from benchmarks.kernels.timing import matmul_rate, median_us, read_bandwidth
from tandem_bench.record import write_result
from tandem_kernels.decode_attention import decode_attention
from tandem_kernels.decode_plan import empty_plan
from tandem_kernels.plan_decode import plan_decode
from tandem_kernels.prefill_attention import prefill_attention

KV_BLOCK_SIZE = 16
PROMPT_LENGTHS = (512, 4096, 16384)
MAX_NAIVE_LENGTH = 4096
DECODE_BATCHES = {
    "1x512": [512],
    "1x16384": [16384],
    "16x4096": [4096] * 16,
    "256x640": [640] * 256,
    "64x128..8192": torch.linspace(128, 8192, 64).int().tolist(),
}
# Four times the L2 cache of an H200: each timed call of decode finds its keys and values in memory.
MIN_READ_BYTES = 240 << 20
MAX_ERROR = 1e-2

Rung = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Shape:
    """The attention of a model."""

    num_heads: int
    num_kv_heads: int
    head_dim: int


SHAPES = {"Llama-3.2-1B": Shape(32, 8, 64), "Llama-3.1-8B": Shape(32, 8, 128)}


@dataclass(frozen=True)
class Sequences:
    """Random sequences, as rows of equal length and in a block pool.

    Attributes:
        q: [num_seqs, H, num_queries, D].
        k: [num_seqs, G, longest, D].
        v: The same shape.
        k_cache: [num_blocks, KV_BLOCK_SIZE, G, D].
        v_cache: The same shape.
        block_tables: [num_seqs, max_blocks].
        rows: [num_seqs], each sequence's row of block_tables.
        context_lens: [num_seqs].
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    k_cache: torch.Tensor
    v_cache: torch.Tensor
    block_tables: torch.Tensor
    rows: torch.Tensor
    context_lens: torch.Tensor


def main() -> None:
    """Measures and writes results/attention_ladder.json."""
    flops, bandwidth = matmul_rate(), read_bandwidth()
    figures: dict[str, object] = {
        "gpu": torch.cuda.get_device_name(),
        "matmul_tflop_per_s": round(flops / 1e12, 1),
        "read_tb_per_s": round(bandwidth / 1e12, 3),
    }
    print(figures)
    rows = []
    for row in measure(flops, bandwidth):
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        rows.append(row)
    print(write_result("attention_ladder", figures | {"rows": rows}))


def measure(flops: float, bandwidth: float) -> Iterator[dict[str, object]]:
    """The table's rows; ceilings in operations and bytes per second."""
    for model, shape in SHAPES.items():
        for length in PROMPT_LENGTHS:
            # Two products of 2 · length² · head_dim each, of which the causal half counts.
            floor_us = 2 * shape.num_heads * length**2 * shape.head_dim / flops * 1e6
            rungs = prefill_rungs(random_sequences(shape, [length], length))
            yield from timed({"model": model, "prefill": length}, [rungs], floor_us)
        for name, lengths in DECODE_BATCHES.items():
            num_bytes = 4 * sum(lengths) * shape.num_kv_heads * shape.head_dim
            num_layers = min(max(MIN_READ_BYTES // num_bytes, 1), 32)
            layers = [decode_rungs(random_sequences(shape, lengths, 1)) for _ in range(num_layers)]
            yield from timed({"model": model, "decode": name}, layers, num_bytes / bandwidth * 1e6)


def timed(
    work: dict[str, object], layers: list[dict[str, Rung]], floor_us: float
) -> Iterator[dict[str, object]]:
    """A row for each rung, which must agree with torch."""
    for name in layers[0]:
        found, expected = layers[0][name]().double(), layers[0]["torch_sdpa"]().double()
        error = float((found - expected).norm() / expected.norm())
        assert error < MAX_ERROR, f"{name} is off by {error}"
        us = median_us([layer[name] for layer in layers])
        yield work | {"rung": name, "us": round(us, 2), "percent_of_ceiling": round(floor_us / us * 100, 1)}


def prefill_rungs(seqs: Sequences) -> dict[str, Rung]:
    """Every way to attend to one prompt, each returning [T, H, D]."""
    q, k, v = (x[0].transpose(0, 1).contiguous() for x in (seqs.q, seqs.k, seqs.v))
    scale, starts = q.shape[2] ** -0.5, torch.tensor([0, q.shape[0]], device="cuda")
    cache = (seqs.k_cache, seqs.v_cache, seqs.block_tables, seqs.rows)
    rungs: dict[str, Rung] = {
        "flash_1": lambda: flash_1(q, k, v, scale),
        "flash_2": lambda: prefill_attention(q, *cache, starts, seqs.context_lens, scale),
        "torch_sdpa": lambda: _torch_sdpa(seqs, is_causal=True)[0].transpose(0, 1),
    }
    if q.shape[0] <= MAX_NAIVE_LENGTH:
        seen = torch.ones(q.shape[0], q.shape[0], dtype=torch.bool, device="cuda").tril()
        rungs = {"naive": lambda: naive(seqs, seen)[0].transpose(0, 1)} | rungs
    return rungs


def decode_rungs(seqs: Sequences) -> dict[str, Rung]:
    """Every way to attend from the last token of each sequence, each returning [B, H, D]."""
    q = seqs.q.squeeze(2)
    num_seqs, num_heads, head_dim = q.shape
    starts = torch.arange(num_seqs + 1, device="cuda")
    plan = empty_plan(num_seqs, num_heads, seqs.k.shape[1], head_dim, q.device)
    plan_decode(seqs.context_lens, seqs.rows, plan)
    cache = (seqs.k_cache, seqs.v_cache, seqs.block_tables, seqs.rows)
    seen = torch.arange(seqs.k.shape[2], device="cuda") < seqs.context_lens[:, None, None, None]
    mask = None if bool(seen.all()) else seen
    return {
        "naive": lambda: naive(seqs, seen).squeeze(2),
        "flash_2": lambda: prefill_attention(q, *cache, starts, seqs.context_lens, head_dim**-0.5),
        "flash_decoding": lambda: decode_attention(q, *cache, seqs.context_lens, head_dim**-0.5, plan),
        "torch_sdpa": lambda: _torch_sdpa(seqs, mask=mask).squeeze(2),
    }


def naive(seqs: Sequences, seen: torch.Tensor) -> torch.Tensor:
    """Scores, softmax and product, one after another through memory; `seen` broadcasts over heads."""
    num_seqs, num_kv_heads, longest, head_dim = seqs.k.shape
    # The heads of a group are rows of one product: their keys and values are not copied.
    rows = seqs.q.reshape(num_seqs, num_kv_heads, -1, head_dim)
    scores = (rows @ seqs.k.transpose(-1, -2) * head_dim**-0.5).view(*seqs.q.shape[:3], longest)
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    out: torch.Tensor = weights.view(num_seqs, num_kv_heads, -1, longest) @ seqs.v
    return out.view(seqs.q.shape)


def _torch_sdpa(seqs: Sequences, mask: torch.Tensor | None = None, is_causal: bool = False) -> torch.Tensor:
    return F.scaled_dot_product_attention(
        seqs.q, seqs.k, seqs.v, attn_mask=mask, is_causal=is_causal, enable_gqa=True
    )


def flash_1(
    q: torch.Tensor,  # [T, H, D]
    k: torch.Tensor,  # [T, G, D]
    v: torch.Tensor,  # [T, G, D]
    scale: float,
) -> torch.Tensor:  # [T, H, D]
    """Causal attention in tiles with the result complete after each (Dao et al., 2022)."""
    out = torch.empty_like(q)
    num_tokens, num_heads, head_dim = q.shape
    num_kv_heads = k.shape[1]
    grid = (num_heads, triton.cdiv(num_tokens, 64))
    _flash_1_kernel[grid](q, k, v, out, num_tokens, scale, num_heads, num_kv_heads, head_dim, 64, num_warps=4)
    return out


@triton.jit
def _flash_1_kernel(
    q: tl.tensor,  # [T, NUM_HEADS, HEAD_DIM]
    k: tl.tensor,  # [T, NUM_KV_HEADS, HEAD_DIM]
    v: tl.tensor,  # [T, NUM_KV_HEADS, HEAD_DIM]
    out: tl.tensor,  # [T, NUM_HEADS, HEAD_DIM]
    num_tokens: int,
    scale: float,
    NUM_HEADS: tl.constexpr,  # noqa: N803
    NUM_KV_HEADS: tl.constexpr,  # noqa: N803
    HEAD_DIM: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    head, tile = tl.program_id(0), tl.program_id(1)
    dims = tl.arange(0, HEAD_DIM)[None, :]
    rows = tile * BLOCK + tl.arange(0, BLOCK)
    is_row = (rows < num_tokens)[:, None]
    q_offsets = (rows[:, None] * NUM_HEADS + head) * HEAD_DIM + dims
    queries = tl.load(q + q_offsets, mask=is_row, other=0.0)
    peak = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    acc = tl.zeros([BLOCK, HEAD_DIM], tl.float32)
    for kv_tile in range(tile + 1):
        columns = kv_tile * BLOCK + tl.arange(0, BLOCK)
        is_column = (columns < num_tokens)[:, None]
        offsets = (columns[:, None] * NUM_KV_HEADS + head // (NUM_HEADS // NUM_KV_HEADS)) * HEAD_DIM + dims
        scores = tl.dot(queries, tl.trans(tl.load(k + offsets, mask=is_column, other=0.0))) * scale
        scores = tl.where(columns[None, :] <= rows[:, None], scores, float("-inf"))
        new_peak = tl.maximum(peak, tl.max(scores, 1))
        weights = tl.exp(scores - new_peak[:, None])
        kept = total * tl.exp(peak - new_peak)
        total = kept + tl.sum(weights, 1)
        values = tl.load(v + offsets, mask=is_column, other=0.0)
        acc = (acc * kept[:, None] + tl.dot(weights.to(values.dtype), values)) / total[:, None]
        peak = new_peak
    tl.store(out + q_offsets, acc.to(out.dtype.element_ty), mask=is_row)


def random_sequences(shape: Shape, lengths: list[int], num_queries: int) -> Sequences:
    """bfloat16 sequences whose blocks lie anywhere in the pool."""
    longest = -(-max(lengths) // KV_BLOCK_SIZE) * KV_BLOCK_SIZE
    rows = (len(lengths), shape.num_kv_heads, longest, shape.head_dim)
    q = _random(len(lengths), shape.num_heads, num_queries, shape.head_dim)
    k, v = _random(*rows), _random(*rows)
    blocks = torch.randperm(len(lengths) * longest // KV_BLOCK_SIZE, device="cuda")
    return Sequences(
        q=q,
        k=k,
        v=v,
        k_cache=_scattered(k, blocks),
        v_cache=_scattered(v, blocks),
        block_tables=blocks.view(len(lengths), -1),
        rows=torch.arange(len(lengths), device=blocks.device),
        context_lens=torch.tensor(lengths, device="cuda"),
    )


def _scattered(
    rows: torch.Tensor,  # [num_seqs, G, longest, D]
    blocks: torch.Tensor,  # [num_blocks]
) -> torch.Tensor:  # [num_blocks, KV_BLOCK_SIZE, G, D]
    in_order = rows.transpose(1, 2).contiguous().view(-1, KV_BLOCK_SIZE, rows.shape[1], rows.shape[3])
    pool = torch.empty_like(in_order)
    pool[blocks] = in_order
    return pool


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, device="cuda", dtype=torch.bfloat16)


if __name__ == "__main__":
    main()
