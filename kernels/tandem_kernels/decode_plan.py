"""The plan of a decode step: which worker attends to which part of which context.

A decode step reads all keys and values once and computes little, so the work is spread by bytes. The
contexts are cut into tiles of tokens, the tiles of all sequences are laid on one line, and every worker
takes a stretch of equal length: sequences of any mix of lengths keep all workers equally busy. The part of
a stretch that lies in one sequence is a piece. Where the stretches need not become much longer for it,
each sequence begins at the start of a stretch: then no worker fills its pipeline twice.

The number of workers is fixed, so that a captured graph never depends on lengths; the pieces are computed
on the device, once a step for all layers.
"""

from dataclasses import dataclass

import torch

# As many as are resident: 128 threads of 128 registers each.
PROGRAMS_PER_SM = 4
# The columns of a piece: its sequence, that one's row of the block tables and context length, the piece's
# tiles [BEGIN, END), the workers of the sequence's first and last pieces, and, for a worker's first piece,
# how many pieces the worker has.
SEQ, ROW, CONTEXT_LEN, BEGIN, END, FIRST_WORKER, LAST_WORKER, NUM_PIECES = range(8)
NUM_COLUMNS = 8
# Elements of a tile of keys: 8 KiB of bfloat16.
_TILE_SIZE = 4096


@dataclass(frozen=True)
class DecodePlan:
    """How one decode step is spread over workers, and the room for the results of its pieces.

    Attributes:
        tile_tokens: Tokens of a tile.
        worker_pieces: [num_workers, NUM_COLUMNS] int32, the piece in which each worker's stretch begins.
        seq_pieces: [max_num_seqs, NUM_COLUMNS] int32, the first piece of each sequence.
        piece_out: [num_workers + max_num_seqs, H, D] float32, attention within a piece.
        piece_lse: [num_workers + max_num_seqs, H] float32, log2 of the sum of a piece's weights.
        arrivals: [max_num_seqs, G] int32, finished pieces; zero between launches.
    """

    tile_tokens: int
    worker_pieces: torch.Tensor
    seq_pieces: torch.Tensor
    piece_out: torch.Tensor
    piece_lse: torch.Tensor
    arrivals: torch.Tensor


def empty_plan(
    max_num_seqs: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    device: torch.device,
    num_programs: int | None = None,
) -> DecodePlan:
    """Allocates a plan; `plan_decode` fills it.

    Args:
        max_num_seqs: Most sequences of a step.
        num_heads: Query heads.
        num_kv_heads: Key-value heads.
        head_dim: Size of a head.
        device: Of the plan.
        num_programs: Programs of the attention's grid; four for each SM where None.
    """
    num_workers = max(1, (num_programs or _num_programs(device)) // num_kv_heads)
    num_slots = num_workers + max_num_seqs
    return DecodePlan(
        tile_tokens=tile_tokens(head_dim),
        worker_pieces=torch.zeros(num_workers, NUM_COLUMNS, dtype=torch.int32, device=device),
        seq_pieces=torch.zeros(max_num_seqs, NUM_COLUMNS, dtype=torch.int32, device=device),
        piece_out=torch.empty(num_slots, num_heads, head_dim, dtype=torch.float32, device=device),
        piece_lse=torch.empty(num_slots, num_heads, dtype=torch.float32, device=device),
        arrivals=torch.zeros(max_num_seqs, num_kv_heads, dtype=torch.int32, device=device),
    )


def tile_tokens(head_dim: int) -> int:
    """Tokens of a tile, for heads of this size."""
    return 64 if head_dim <= _TILE_SIZE // 64 else 32


def _num_programs(device: torch.device) -> int:
    if device.type != "cuda":
        return 8
    return PROGRAMS_PER_SM * int(torch.cuda.get_device_properties(device).multi_processor_count)
