"""Grouped-query attention with rotary positions and a paged KV cache."""

import torch
from torch import nn

from engine_service.batch import Batch
from engine_service.layers.parameter import parameter
from engine_service.model_config import ModelConfig
from tandem_kernels import linear_residual, norm_qkv_rope_store


class Attention(nn.Module):
    """Query, key and value as one projection; every group of query heads shares a key-value head."""

    def __init__(self, config: ModelConfig) -> None:
        """Weights are uninitialized; biases and head norms exist where the architecture has them."""
        super().__init__()
        self.head_dim = config.head_dim
        self.eps = config.rms_norm_eps
        q_size, kv_size = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.qkv_sizes = [q_size, kv_size, kv_size]
        self.qkv_weight = parameter(sum(self.qkv_sizes), config.hidden_size)
        self.qkv_bias = parameter(sum(self.qkv_sizes)) if config.attention.has_qkv_bias else None
        has_norm = config.attention.has_qk_norm
        self.q_norm = parameter(config.head_dim) if has_norm else None
        self.k_norm = parameter(config.head_dim) if has_norm else None
        self.o_weight = parameter(config.hidden_size, q_size)

    def forward(
        self,
        residual: torch.Tensor,  # [num_tokens, hidden_size], overwritten
        norm: torch.Tensor,  # [hidden_size]
        batch: Batch,
        k_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        v_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        cos_sin: torch.Tensor,  # [context_length, head_dim]
        places: torch.Tensor | None = None,  # [num_places]
    ) -> torch.Tensor:  # [num_tokens, hidden_size], or [num_places, hidden_size]
        """Stores the tokens' keys and values, attends to all that is stored of their sequences, and adds
        the outcome to the residual stream, of which it goes on with `places` only if there are any.
        """
        q, kv = norm_qkv_rope_store(
            residual, norm, self.eps, self.qkv_weight, self.qkv_bias, self.q_norm, self.k_norm,
            batch.positions, cos_sin, k_cache, v_cache, batch.slot_mapping,
        )  # fmt: skip
        attended = batch.attend(q, kv, k_cache, v_cache, self.head_dim**-0.5).flatten(1)
        if places is not None:
            attended, residual = attended[places], residual[places]
        linear_residual(attended, self.o_weight, residual)
        return residual

    def checkpoint_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by its name there."""
        sizes = self.qkv_sizes
        names = [f"{prefix}.{part}_proj" for part in "qkv"]
        tensors = dict(zip([f"{n}.weight" for n in names], torch.split(self.qkv_weight, sizes), strict=True))
        if self.qkv_bias is not None:
            tensors |= zip([f"{n}.bias" for n in names], torch.split(self.qkv_bias, sizes), strict=True)
        if self.q_norm is not None and self.k_norm is not None:
            tensors |= {f"{prefix}.q_norm.weight": self.q_norm, f"{prefix}.k_norm.weight": self.k_norm}
        return tensors | {f"{prefix}.o_proj.weight": self.o_weight}
