"""Which GPUs begin a kernel before its predecessor ends (programmatic dependent launch).

A kernel that is launched so executes `gdc_wait` before it touches anything that a kernel before it has
written or still reads. It ends after its predecessor then, so what holds for one predecessor holds for all.
"""

import torch

from tandem_kernels.gpu import capability


def has_dependent_launch(x: torch.Tensor) -> bool:
    """Whether kernels on the device of `x` can begin before their predecessors end."""
    return not x.is_cpu and capability(x.device) >= (9, 0)
