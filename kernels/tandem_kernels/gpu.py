"""What launchers ask of the GPU that a tensor is on; for the meta device of the current GPU."""

import functools

import torch
import triton


def is_hopper(x: torch.Tensor) -> bool:
    """Whether it has the copy engine (TMA) and the products of whole warp groups (wgmma) in Hopper's form."""
    return not x.is_cpu and capability(x.device)[0] == 9


@functools.cache
def capability(device: torch.device) -> tuple[int, int]:
    """The compute capability."""
    return torch.cuda.get_device_capability(None if device.type == "meta" else device)


def num_sms(device: torch.device) -> int:
    """Streaming multiprocessors."""
    return _properties(device)["multiprocessor_count"]


def shared_bytes(device: torch.device) -> int:
    """The shared memory that a program may use."""
    return _properties(device)["max_shared_mem"]


@functools.cache
def _properties(device: torch.device) -> dict[str, int]:
    driver = triton.runtime.driver.active
    index = driver.get_current_device() if device.index is None else device.index
    return dict(driver.utils.get_device_properties(index))
