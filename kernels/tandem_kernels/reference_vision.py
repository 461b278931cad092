"""The vision tower's own operations in plain torch; see `reference`."""

import torch
import torch.nn.functional as F


def layer_norm(
    x: torch.Tensor,  # [..., size]
    weight: torch.Tensor,  # [size]
    bias: torch.Tensor,  # [size]
    eps: float,
) -> torch.Tensor:  # [..., size]
    """(x - mean(x)) / sqrt(var(x) + eps) * weight + bias over the last axis (Ba et al., 2016)."""
    return F.layer_norm(x, weight.shape, weight, bias, eps)


def add_layer_norm(
    x: torch.Tensor,  # [..., size]
    residual: torch.Tensor,  # [..., size], overwritten with x + residual
    weight: torch.Tensor,  # [size]
    bias: torch.Tensor,  # [size]
    eps: float,
) -> torch.Tensor:  # [..., size]
    """Adds `x` to the residual stream and returns the sum's `layer_norm`."""
    residual += x
    return layer_norm(residual, weight, bias, eps)


def quick_gelu(
    x: torch.Tensor,  # [...]
) -> torch.Tensor:  # [...]
    """x * sigmoid(1.702 x), CLIP's approximation of GELU (Hendrycks and Gimpel, 2016)."""
    return x * torch.sigmoid(1.702 * x)
