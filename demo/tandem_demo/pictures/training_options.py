"""The flags of a training run. No torch here: row-making processes are forked before it is imported."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Flags of the program."""

    out: Path
    minutes: float
    steps: int
    batch: int
    pool: int
    slots: int
    questions: int
    learning_rate: float
    eval_seconds: float
    processes: int
    device: str
    seed: int
    compile: bool


def parse_options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train Tandem's picture demo model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="directory for the checkpoint and training_log.json")
    add("--minutes", type=float, default=7.0, help="wall-clock time for everything, in minutes")
    add("--steps", type=int, default=0, help="training steps; 0: as many as the time allows")
    add("--batch", type=int, default=256, help="rows (pictures) a step")
    add("--pool", type=int, default=2_000_000, help="rows kept on the device, 28 kB each")
    add("--slots", type=int, default=600, help="chunks of 512 rows made ahead, 14 MB each")
    add("--questions", type=int, default=200, help="held-out questions per task")
    add("--learning-rate", type=float, default=1e-3, help="peak learning rate")
    add(
        "--eval-seconds", type=float, default=20.0, help="time kept for saving and the last check, in seconds"
    )
    add("--processes", type=int, default=max(1, (os.cpu_count() or 1) - 2), help="processes that make rows")
    add("--device", default="cuda", help="torch device")
    add("--seed", type=int, default=0, help="seed of pictures, weights and order")
    add("--compile", action=argparse.BooleanOptionalAction, default=True, help="use torch.compile")
    return Options(**vars(parser.parse_args()))
