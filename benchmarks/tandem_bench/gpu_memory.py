"""The memory of the first GPU: what is in use, as its driver counts it, and giving it back."""

import gc
import shutil
import subprocess

import torch


def gpu_memory_mib() -> float | None:
    """MiB in use by all processes; None without an NVIDIA GPU."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def free_gpu_memory() -> None:
    """Returns what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
