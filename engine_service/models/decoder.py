"""The decoder-only language model of the Llama family.

Llama 2 and 3, Mistral, Qwen2 and Qwen3 are this model; where they differ, in the biases and norms of
attention, `layers/attention.py` follows the configuration's `attention`.
"""

import torch
from torch import nn

from engine_service.batch import Batch
from engine_service.kv_cache import KVCache
from engine_service.layers.attention import Attention
from engine_service.layers.mlp import MLP
from engine_service.layers.parameter import parameter
from engine_service.layers.rotary import cos_sin_table
from engine_service.model_config import ModelConfig
from tandem_kernels import embedding, norm_head


class DecoderLayer(nn.Module):
    """Attention and feed-forward, each after a norm and beside the residual stream."""

    def __init__(self, config: ModelConfig) -> None:
        """Weights are uninitialized."""
        super().__init__()
        self.input_norm = parameter(config.hidden_size)
        self.attention = Attention(config)
        self.post_attention_norm = parameter(config.hidden_size)
        self.mlp = MLP(config)

    def forward(
        self,
        residual: torch.Tensor,  # [num_tokens, hidden_size], the residual stream; overwritten
        batch: Batch,
        k_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        v_cache: torch.Tensor,  # [num_blocks, block_size, num_kv_heads, head_dim]
        cos_sin: torch.Tensor,  # [context_length, head_dim]
        places: torch.Tensor | None = None,  # [num_places]
    ) -> torch.Tensor:  # [num_tokens, hidden_size], or [num_places, hidden_size]
        """Adds what attention and feed-forward find to the stream; `places` cut it as in `Attention`."""
        residual = self.attention(residual, self.input_norm, batch, k_cache, v_cache, cos_sin, places)
        self.mlp(residual, self.post_attention_norm)
        return residual

    def checkpoint_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by its name there."""
        return {
            f"{prefix}.input_layernorm.weight": self.input_norm,
            f"{prefix}.post_attention_layernorm.weight": self.post_attention_norm,
            **self.attention.checkpoint_tensors(f"{prefix}.self_attn"),
            **self.mlp.checkpoint_tensors(f"{prefix}.mlp"),
        }


class Decoder(nn.Module):
    """Embedding, layers, final norm and output head.

    Attributes:
        embedding_weight: [vocab_size + num_feature_rows, hidden_size]. Rows behind the vocabulary are
            features of images, for tokens that have the row's number in place of an id.
    """

    def __init__(self, config: ModelConfig, device: torch.device, num_feature_rows: int = 0) -> None:
        """Weights are uninitialized, of the default type, on `device`."""
        super().__init__()
        with device:
            self.eps = config.rms_norm_eps
            self.embedding_weight = parameter(config.vocab_size + num_feature_rows, config.hidden_size)
            self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
            self.norm = parameter(config.hidden_size)
            tied = self.embedding_weight.data[: config.vocab_size]
            self.head_weight = tied if config.is_tied else parameter(*tied.shape)
            self.cos_sin = cos_sin_table(config, device)

    def forward(
        self,
        batch: Batch,
        cache: KVCache,
        places: torch.Tensor | None = None,  # [num_places]
    ) -> torch.Tensor:  # [num_tokens, hidden_size], or [num_places, hidden_size]
        """The residual stream after the last layer, of all tokens or of those at `places`: behind the last
        layer's attention the others need not be computed. Keys and values of all are in the cache then, and
        only as many layers run as that has.
        """
        residual = embedding(batch.token_ids, self.embedding_weight)
        last = len(cache.keys) - 1
        for index, (layer, *caches) in enumerate(zip(self.layers, cache.keys, cache.values, strict=False)):
            residual = layer(residual, batch, *caches, self.cos_sin, places if index == last else None)
        return residual

    def logits(
        self,
        residual: torch.Tensor,  # [num_tokens, hidden_size]
        out: torch.Tensor,  # [num_tokens, vocab_size] float32, overwritten
    ) -> torch.Tensor:  # [num_tokens, vocab_size] float32, `out`
        """The scores of every token id for the place after each token."""
        norm_head(residual, self.norm, self.eps, self.head_weight, out)
        return out

    def checkpoint_tensors(self) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by its name there."""
        tensors = {
            "model.embed_tokens.weight": self.embedding_weight.data[: len(self.head_weight)],
            "model.norm.weight": self.norm.data,
            "lm_head.weight": self.head_weight.data,
        }
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, DecoderLayer)
            tensors |= layer.checkpoint_tensors(f"model.layers.{index}")
        return tensors
