"""The angles of rotary position embeddings."""

import math

import torch

from engine_service.model_config import ModelConfig, RopeScaling


def cos_sin_table(config: ModelConfig, device: torch.device) -> torch.Tensor:
    """Cosines and sines of every position: [context_length, head_dim] float32, cosines first.

    Frequencies are theta^(-2i/d) (Su et al., 2021), stretched for llama3 scaling.
    """
    if device.type == "meta":
        # For `arange` there torch (2.11) imports its compiler and sympy, which takes seconds.
        return torch.empty(config.context_length, config.head_dim, dtype=torch.float32, device=device)
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponents
    if config.rope_scaling is not None:
        frequencies = _stretch(frequencies, config.rope_scaling)
    angles = torch.arange(config.context_length, dtype=torch.float32).outer(frequencies)
    return torch.cat((angles.cos(), angles.sin()), dim=-1).to(device)


def _stretch(
    frequencies: torch.Tensor,  # [head_dim / 2]
    scaling: RopeScaling,
) -> torch.Tensor:  # [head_dim / 2]
    """The llama3 rule: long wavelengths are stretched by `factor`, short ones kept, between them blended."""
    wavelengths = 2 * math.pi / frequencies
    rotations = scaling.original_context_length / wavelengths
    blend = (rotations - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = blend.clamp(0.0, 1.0)
    return (1 - blend) * frequencies / scaling.factor + blend * frequencies
