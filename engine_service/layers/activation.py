"""The activations of vision towers and projectors, by their names in a configuration."""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F


def quick_gelu(
    x: torch.Tensor,  # [...]
) -> torch.Tensor:  # [...]
    """x * sigmoid(1.702 x), CLIP's approximation of GELU (Hendrycks and Gimpel, 2016)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}
