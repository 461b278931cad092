"""The final norm and the projection to the vocabulary."""

import torch

from tandem_kernels.linear import norm_linear
from tandem_kernels.projection_tiles import projection_tile
from tandem_kernels.rms_norm import rms_norm


def norm_head(
    residual: torch.Tensor,  # [T, hidden_size], contiguous
    norm_weight: torch.Tensor,  # [hidden_size]
    eps: float,
    weight: torch.Tensor,  # [vocab_size, hidden_size], contiguous
    out: torch.Tensor,  # [T, vocab_size] float32, contiguous; written
) -> None:
    """See `reference.norm_head`; logits are never rounded to 16 bits."""
    tile = projection_tile("norm_head", residual, weight)
    if tile is None:
        x = rms_norm(residual, norm_weight, eps)
        if x.dtype == torch.float32:
            torch.mm(x, weight.T, out=out)
        else:
            torch.mm(x, weight.T, out_dtype=torch.float32, out=out)
    else:
        norm_linear(residual, norm_weight, eps, weight, out, tile)
