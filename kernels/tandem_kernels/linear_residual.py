"""A projection whose result joins the residual stream: attention's output and the feed-forward's."""

import torch

from tandem_kernels.linear import linear
from tandem_kernels.projection_tiles import projection_tile


def linear_residual(
    x: torch.Tensor,  # [T, K], contiguous
    weight: torch.Tensor,  # [N, K], contiguous
    residual: torch.Tensor,  # [T, N], contiguous; added to
) -> None:
    """See `reference.linear_residual`; the sum is rounded once."""
    tile = projection_tile("linear_residual", x, weight)
    if tile is None:
        residual.addmm_(x, weight.T)
    else:
        linear(x, weight, residual, tile, is_added=True)
