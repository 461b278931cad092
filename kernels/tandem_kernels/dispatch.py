"""Which code runs an operation: plain torch on a CPU, its Triton kernel on an NVIDIA GPU.

On the meta device too it is the kernel's launcher, which shows without a GPU what is launched on one.
"""

import functools
import importlib
import importlib.util
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import torch

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")

_HAS_TRITON = importlib.util.find_spec("triton") is not None


def by_device(reference: Callable[_Arguments, _Result], module: str) -> Callable[_Arguments, _Result]:
    """The operation that picks its code by where its first argument, a tensor, is.

    Args:
        reference: The operation in plain torch; all there is where Triton is not installed.
        module: The file beside this one that has a launcher of the same name and signature.
    """
    if not _HAS_TRITON:
        return reference
    launcher = getattr(importlib.import_module(f"tandem_kernels.{module}"), reference.__name__)

    @functools.wraps(reference)
    def operation(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        first = args[0]
        assert isinstance(first, torch.Tensor)
        return cast(_Result, (reference if first.is_cpu else launcher)(*args, **kwargs))

    return operation
