"""The memory in use on the first GPU, as its driver counts it."""

import shutil
import subprocess


def gpu_memory_mib() -> float | None:
    """MiB in use by all processes; None without an NVIDIA GPU."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
