"""The tensors of one step: a batch of prefill chunks, or a batch of decoding sequences.

Both say how their queries attend; the models do not know which of the two they run.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Protocol

import torch

from engine_service.plan import PrefillChunk
from engine_service.sequence import Sequence
from tandem_kernels import decode_attention, prefill_attention


class Batch(Protocol):
    """What a model needs of a batch.

    Attributes:
        token_ids: [num_tokens].
        positions: [num_tokens], of each token in its sequence.
        slot_mapping: [num_tokens], where keys and values go.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slot_mapping: torch.Tensor

    def attend(
        self,
        q: torch.Tensor,  # [num_tokens, num_heads, head_dim]
        k_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        v_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        scale: float,
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        """Attention of the batch's tokens to their contexts."""
        ...


@dataclass
class PrefillBatch:
    """Chunks of known tokens, one after another, without padding.

    Attributes:
        block_tables: [num_chunks, max_blocks], padded with 0.
        cu_seqlens_q: [num_chunks + 1], where each chunk begins.
        context_lens: [num_chunks], tokens up to each chunk's end.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slot_mapping: torch.Tensor
    block_tables: torch.Tensor
    cu_seqlens_q: torch.Tensor
    context_lens: torch.Tensor

    @classmethod
    def of(cls, chunks: Items[PrefillChunk], block_size: int, device: torch.device) -> "PrefillBatch":
        """The batch of a plan's chunks."""
        token_ids: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        starts = [0]
        for chunk in chunks:
            places = range(chunk.start, chunk.start + chunk.length)
            token_ids += chunk.sequence.tokens[chunk.start : chunk.start + chunk.length]
            positions += places
            slots += [_slot(chunk.sequence, place, block_size) for place in places]
            starts.append(len(token_ids))
        ends = [chunk.start + chunk.length for chunk in chunks]
        return cls(
            token_ids=_tensor(token_ids, device),
            positions=_tensor(positions, device),
            slot_mapping=_tensor(slots, device),
            block_tables=_block_tables([chunk.sequence for chunk in chunks], device),
            cu_seqlens_q=_tensor(starts, device),
            context_lens=_tensor(ends, device),
        )

    def attend(
        self,
        q: torch.Tensor,  # [num_tokens, num_heads, head_dim]
        k_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        v_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        scale: float,
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        """Causal attention of each chunk to its sequence."""
        return prefill_attention(
            q, k_cache, v_cache, self.block_tables, self.cu_seqlens_q, self.context_lens, scale
        )


@dataclass
class DecodeBatch:
    """The newest token of each decoding sequence.

    Attributes:
        rows: [num_seqs], each sequence's row in the state table.
        block_tables: [num_seqs, max_blocks], padded with 0.
        context_lens: [num_seqs], tokens that each query sees, itself included.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slot_mapping: torch.Tensor
    rows: torch.Tensor
    block_tables: torch.Tensor
    context_lens: torch.Tensor

    @classmethod
    def of(
        cls,
        sequences: Items[Sequence],
        last_tokens: torch.Tensor,  # [max_num_seqs], by row
        block_size: int,
        device: torch.device,
    ) -> "DecodeBatch":
        """The batch of a plan's decoding sequences, whose newest tokens are on the device only."""
        places = [sequence.num_computed - 1 for sequence in sequences]
        slots = [_slot(*pair, block_size) for pair in zip(sequences, places, strict=True)]
        rows = _tensor([sequence.row for sequence in sequences], device)
        positions = _tensor(places, device)
        return cls(
            token_ids=last_tokens[rows],
            positions=positions,
            slot_mapping=_tensor(slots, device),
            rows=rows,
            block_tables=_block_tables(sequences, device),
            context_lens=positions + 1,
        )

    def attend(
        self,
        q: torch.Tensor,  # [num_tokens, num_heads, head_dim]
        k_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        v_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        scale: float,
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        """Attention of each token to its context."""
        return decode_attention(q, k_cache, v_cache, self.block_tables, self.context_lens, scale)


def _slot(sequence: Sequence, place: int, block_size: int) -> int:
    return sequence.blocks[place // block_size] * block_size + place % block_size


def _block_tables(sequences: Items[Sequence], device: torch.device) -> torch.Tensor:
    width = max(len(sequence.blocks) for sequence in sequences)
    return _tensor([each.blocks + [0] * (width - len(each.blocks)) for each in sequences], device)


def _tensor(values: Items[int] | Items[list[int]], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64, device=device)
