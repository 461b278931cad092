"""The `tandem` command as a process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TANDEM = [sys.executable, "-m", "tandem"]
TIMEOUT_S = 60.0


def environment(**more: str) -> dict[str, str]:
    """The process's, without a target, and with the checkout importable."""
    path = [str(ROOT), str(ROOT / "clients"), os.environ.get("PYTHONPATH", "")]
    inherited = {name: value for name, value in os.environ.items() if name != "TANDEM_TARGET"}
    return {**inherited, "PYTHONPATH": os.pathsep.join(filter(None, path)), **more}


def tandem(*arguments: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TANDEM, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment(**more),
    )
