"""The gated feed-forward part of a layer."""

import torch
import torch.nn.functional as F
from torch import nn

from engine_service.layers.parameter import parameter
from engine_service.model_config import ModelConfig
from tandem_kernels import silu_mul


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x)), gate and up as one projection."""

    def __init__(self, config: ModelConfig) -> None:
        """Weights are uninitialized."""
        super().__init__()
        self.gate_up_weight = parameter(2 * config.intermediate_size, config.hidden_size)
        self.down_weight = parameter(config.hidden_size, config.intermediate_size)

    def forward(
        self,
        x: torch.Tensor,  # [num_tokens, hidden_size]
    ) -> torch.Tensor:  # [num_tokens, hidden_size]
        """Runs each token on its own."""
        return F.linear(silu_mul(F.linear(x, self.gate_up_weight)), self.down_weight)

    def checkpoint_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by its name there."""
        gate, up = self.gate_up_weight.chunk(2)
        return {
            f"{prefix}.gate_proj.weight": gate,
            f"{prefix}.up_proj.weight": up,
            f"{prefix}.down_proj.weight": self.down_weight,
        }
