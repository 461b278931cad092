"""The activations of vision towers and projectors, by their names in a configuration."""

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F

from tandem_kernels import quick_gelu

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "quick_gelu": quick_gelu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}
