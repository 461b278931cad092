"""Writes a benchmark's figures with what is needed to measure them again."""

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "results"
# Of the last minute, before anything was measured: what else ran on the machine.
_LOAD_AVERAGE = round(os.getloadavg()[0], 2)
PACKAGES = ("grpcio", "protobuf", "torch", "triton", "transformers", "tokenizers")


def write_result(name: str, figures: dict[str, Any], directory: Path = RESULTS, commit: str = "") -> Path:
    """Writes `NAME.json` in a directory and returns its path.

    Args:
        name: The file's stem.
        figures: What was measured, units in the keys.
        directory: Made if it is not there.
        commit: What was measured; empty asks git, which a machine that measures may not have.
    """
    result = {
        "name": name,
        "command": " ".join(["python", *sys.orig_argv[1:]]),
        "commit": commit or _commit(),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": _cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "gpus": _gpus(),
            "system": platform.platform(terse=True),
            "load_average_at_start": _LOAD_AVERAGE,
        },
        "versions": {"python": platform.python_version()} | _versions(),
        "figures": figures,
    }
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def _gpus() -> list[str]:
    """Name and driver of each NVIDIA GPU."""
    if shutil.which("nvidia-smi") is None:
        return []
    return _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader").splitlines()


def _commit() -> str:
    """The checkout's commit; a machine that measures may have a bare copy of the files."""
    try:
        has_changes = _output("git", "status", "--porcelain", "-uno")
        return _output("git", "rev-parse", "HEAD") + ("+changes" if has_changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
