"""The gated feed-forward part of a layer."""

import torch
from torch import nn

from engine_service.layers.parameter import parameter
from engine_service.model_config import ModelConfig
from tandem_kernels import linear_residual, norm_gate_up_silu


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x)), gate and up as one projection."""

    def __init__(self, config: ModelConfig) -> None:
        """Weights are uninitialized."""
        super().__init__()
        self.eps = config.rms_norm_eps
        self.gate_up_weight = parameter(2 * config.intermediate_size, config.hidden_size)
        self.down_weight = parameter(config.hidden_size, config.intermediate_size)

    def forward(
        self,
        residual: torch.Tensor,  # [num_tokens, hidden_size], overwritten
        norm: torch.Tensor,  # [hidden_size]
    ) -> None:
        """Runs each token on its own and adds the outcome to the residual stream."""
        gated = norm_gate_up_silu(residual, norm, self.eps, self.gate_up_weight)
        linear_residual(gated, self.down_weight, residual)

    def checkpoint_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by its name there."""
        gate, up = self.gate_up_weight.chunk(2)
        return {
            f"{prefix}.gate_proj.weight": gate,
            f"{prefix}.up_proj.weight": up,
            f"{prefix}.down_proj.weight": self.down_weight,
        }
