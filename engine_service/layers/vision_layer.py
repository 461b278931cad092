"""A layer of a vision transformer."""

import torch
from torch import nn
from torch.nn import functional as F

from engine_service.layers.activation import ACTIVATIONS
from engine_service.layers.parameter import parameter
from engine_service.vision_config import VisionConfig
from tandem_kernels import add_layer_norm, layer_norm


class LayerNorm(nn.Module):
    """Normalization to mean 0 and variance 1, then scale and shift."""

    def __init__(self, config: VisionConfig) -> None:
        """Weights are uninitialized."""
        super().__init__()
        self.eps = config.layer_norm_eps
        self.weight = parameter(config.hidden_size)
        self.bias = parameter(config.hidden_size)

    def forward(
        self,
        x: torch.Tensor,  # [..., hidden_size]
    ) -> torch.Tensor:  # [..., hidden_size]
        """Normalizes each row on its own."""
        return layer_norm(x, self.weight, self.bias, self.eps)

    def add(
        self,
        x: torch.Tensor,  # [..., hidden_size]
        residual: torch.Tensor,  # [..., hidden_size], overwritten with x + residual
    ) -> torch.Tensor:  # [..., hidden_size]
        """Adds `x` to the residual stream, and normalizes the sum."""
        return add_layer_norm(x, residual, self.weight, self.bias, self.eps)

    def checkpoint_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by its name there."""
        return {f"{prefix}.weight": self.weight, f"{prefix}.bias": self.bias}


class VisionAttention(nn.Module):
    """Every patch attends to every patch of its image; query, key and value are one projection."""

    def __init__(self, config: VisionConfig) -> None:
        """Weights are uninitialized."""
        super().__init__()
        size = config.hidden_size
        self.num_heads = config.num_heads
        self.qkv_weight = parameter(3 * size, size)
        self.qkv_bias = parameter(3 * size)
        self.out_weight = parameter(size, size)
        self.out_bias = parameter(size)

    def forward(
        self,
        x: torch.Tensor,  # [num_images, num_places, hidden_size]
    ) -> torch.Tensor:  # [num_images, num_places, hidden_size]
        """Scaled dot-product attention of all heads."""
        qkv = F.linear(x, self.qkv_weight, self.qkv_bias).view(*x.shape[:2], 3, self.num_heads, -1)
        q, k, v = qkv.transpose(1, 3).unbind(2)  # each [num_images, num_heads, num_places, head_dim]
        attended = F.scaled_dot_product_attention(q, k, v)
        return F.linear(attended.transpose(1, 2).flatten(2), self.out_weight, self.out_bias)

    def checkpoint_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by its name there."""
        tensors: dict[str, torch.Tensor] = {
            f"{prefix}.out_proj.weight": self.out_weight,
            f"{prefix}.out_proj.bias": self.out_bias,
        }
        weights, biases = self.qkv_weight.chunk(3), self.qkv_bias.chunk(3)
        for part, weight, bias in zip("qkv", weights, biases, strict=True):
            tensors |= {f"{prefix}.{part}_proj.weight": weight, f"{prefix}.{part}_proj.bias": bias}
        return tensors


class VisionMLP(nn.Module):
    """The feed-forward part: out(activation(in(x)))."""

    def __init__(self, config: VisionConfig) -> None:
        """Weights are uninitialized."""
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.in_weight = parameter(config.intermediate_size, config.hidden_size)
        self.in_bias = parameter(config.intermediate_size)
        self.out_weight = parameter(config.hidden_size, config.intermediate_size)
        self.out_bias = parameter(config.hidden_size)

    def forward(
        self,
        x: torch.Tensor,  # [..., hidden_size]
    ) -> torch.Tensor:  # [..., hidden_size]
        """Runs each row on its own."""
        inner = self.activation(F.linear(x, self.in_weight, self.in_bias))
        return F.linear(inner, self.out_weight, self.out_bias)

    def checkpoint_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by its name there."""
        return {
            f"{prefix}.fc1.weight": self.in_weight,
            f"{prefix}.fc1.bias": self.in_bias,
            f"{prefix}.fc2.weight": self.out_weight,
            f"{prefix}.fc2.bias": self.out_bias,
        }


class VisionLayer(nn.Module):
    """Attention and feed-forward, each after a norm and beside the residual stream."""

    def __init__(self, config: VisionConfig) -> None:
        """Weights are uninitialized."""
        super().__init__()
        self.attention_norm = LayerNorm(config)
        self.attention = VisionAttention(config)
        self.mlp_norm = LayerNorm(config)
        self.mlp = VisionMLP(config)

    def forward(
        self,
        added: torch.Tensor,  # [num_images, num_places, hidden_size]
        residual: torch.Tensor,  # [num_images, num_places, hidden_size], overwritten
    ) -> torch.Tensor:  # [num_images, num_places, hidden_size]
        """Adds what came before to the stream, then what attention finds; what the feed-forward part
        finds is for the next to add.
        """
        found = self.attention(self.attention_norm.add(added, residual))
        return self.mlp(self.mlp_norm.add(found, residual))  # type: ignore[no-any-return]

    def checkpoint_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by its name there."""
        return {
            **self.attention_norm.checkpoint_tensors(f"{prefix}.layer_norm1"),
            **self.attention.checkpoint_tensors(f"{prefix}.self_attn"),
            **self.mlp_norm.checkpoint_tensors(f"{prefix}.layer_norm2"),
            **self.mlp.checkpoint_tensors(f"{prefix}.mlp"),
        }
