"""The tensors of one step: a batch of prefill chunks, or a batch of decoding sequences.

Both say how their queries attend; the models do not know which of the two they run.
"""

from dataclasses import dataclass
from typing import Protocol

import torch

from engine_service.sequence_table import SequenceTable
from engine_service.step_words import PrefillShape
from tandem_kernels import decode_attention, decode_inputs, plan_decode, prefill_attention
from tandem_kernels.decode_plan import DecodePlan


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
        kv: torch.Tensor | None,  # [num_tokens, 2 * num_kv_heads, head_dim], the same as in the cache
        k_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        v_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        scale: float,
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        """Attention of the batch's tokens to their contexts."""
        ...


@dataclass
class PrefillBatch:
    """Chunks of known tokens, one after another, without padding between them.

    Attributes:
        block_tables: [num_rows, max_blocks].
        rows: [num_chunks], each chunk's row of block_tables.
        cu_seqlens_q: [num_chunks + 1], where each chunk begins.
        context_lens: [num_chunks], tokens up to each chunk's end.
        ends: [num_drawing], the token after which each drawing sequence draws.
        draw_rows: [num_drawing], its row in the state table.
        draw_positions: [num_drawing], the index of what it draws.
        is_fresh: Whether all chunks are the first of their sequences.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slot_mapping: torch.Tensor
    block_tables: torch.Tensor
    rows: torch.Tensor
    cu_seqlens_q: torch.Tensor
    context_lens: torch.Tensor
    ends: torch.Tensor
    draw_rows: torch.Tensor
    draw_positions: torch.Tensor
    is_fresh: bool

    @classmethod
    def of(
        cls,
        words: torch.Tensor,  # [shape.num_words] int32, as `step_words` packs them
        shape: PrefillShape,
        table: SequenceTable,
        block_size: int,
        context_length: int,
    ) -> "PrefillBatch":
        """The batch of packed chunks; padding stays below `context_length` too."""
        cu_seqlens, starts, rows, lens, ends, draw_rows, draw_positions, token_ids = (
            words[place : place + size] for place, size in shape.segments()
        )
        places = torch.arange(shape.num_tokens, dtype=torch.int32, device=words.device)
        # The entry after the last chunk stands for padding behind it.
        chunks = torch.searchsorted(cu_seqlens[1:], places, right=True, out_int32=True)
        positions = (places - cu_seqlens[chunks] + starts[chunks]).clamp_(max=context_length - 1)
        blocks = table.block_tables[rows[chunks], positions // block_size]
        return cls(
            token_ids=token_ids,
            positions=positions,
            slot_mapping=blocks * block_size + positions % block_size,
            block_tables=table.block_tables,
            rows=rows[: shape.num_chunks],
            cu_seqlens_q=cu_seqlens,
            context_lens=lens,
            ends=ends,
            draw_rows=draw_rows,
            draw_positions=draw_positions,
            is_fresh=shape.is_fresh,
        )

    def attend(
        self,
        q: torch.Tensor,  # [num_tokens, num_heads, head_dim]
        kv: torch.Tensor | None,  # [num_tokens, 2 * num_kv_heads, head_dim]
        k_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        v_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        scale: float,
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        """Causal attention of each chunk to its sequence."""
        return prefill_attention(
            q, k_cache, v_cache, self.block_tables, self.rows, self.cu_seqlens_q, self.context_lens, scale,
            kv if self.is_fresh else None,
        )  # fmt: skip


@dataclass
class DecodeBatch:
    """The newest token of each decoding sequence.

    Attributes:
        block_tables: [num_rows, max_blocks].
        rows: [num_seqs], each sequence's row of block_tables.
        context_lens: [num_seqs], tokens that each query sees, itself included; 0 for padding.
        plan: How attention is spread over the device.
    """

    token_ids: torch.Tensor
    positions: torch.Tensor
    slot_mapping: torch.Tensor
    block_tables: torch.Tensor
    rows: torch.Tensor
    context_lens: torch.Tensor
    plan: DecodePlan

    @classmethod
    def of(
        cls,
        rows: torch.Tensor,  # [num_seqs] int32
        context_lens: torch.Tensor,  # [num_seqs] int32
        table: SequenceTable,
        block_size: int,
        plan: DecodePlan,  # overwritten
    ) -> "DecodeBatch":
        """The batch of sequences whose newest tokens are on the device only."""
        inputs = decode_inputs(table.state, rows, context_lens, table.layout, block_size)
        token_ids, positions, slot_mapping = inputs.unbind()
        plan = plan_decode(context_lens, rows, plan)
        return cls(token_ids, positions, slot_mapping, table.block_tables, rows, context_lens, plan)

    def attend(
        self,
        q: torch.Tensor,  # [num_tokens, num_heads, head_dim]
        kv: torch.Tensor | None,  # [num_tokens, 2 * num_kv_heads, head_dim]
        k_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        v_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        scale: float,
    ) -> torch.Tensor:  # [num_tokens, num_heads, head_dim]
        """Attention of each token to its context."""
        tables, lens = self.block_tables, self.context_lens
        return decode_attention(q, k_cache, v_cache, tables, self.rows, lens, scale, self.plan)
