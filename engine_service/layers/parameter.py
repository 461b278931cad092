"""Weights that are loaded, never trained."""

import torch
from torch import nn


def parameter(*shape: int) -> nn.Parameter:
    """An uninitialized parameter of the default type on the default device."""
    return nn.Parameter(torch.empty(shape), requires_grad=False)
