"""The flags of a training run. No torch here: worker processes import this file too."""

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
    conversations: int
    data_seconds: float
    eval_seconds: float
    questions: int
    learning_rate: float
    processes: int
    device: str
    seed: int
    compile: bool


def parse_options() -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train Tandem's text demo model.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="directory for the checkpoint and training_log.json")
    add("--minutes", type=float, default=8.0, help="wall-clock time for everything, in minutes")
    add("--steps", type=int, default=0, help="training steps; 0: as many as the time allows")
    add("--batch", type=int, default=64, help="rows of 1024 tokens a step, or as many tokens in shorter rows")
    add("--conversations", type=int, default=1_800_000, help="training conversations to make")
    add("--data-seconds", type=float, default=80.0, help="longest time for making them, in seconds")
    add("--eval-seconds", type=float, default=50.0, help="time kept for evaluation, in seconds")
    add("--questions", type=int, default=200, help="held-out questions per task")
    add("--learning-rate", type=float, default=2e-3, help="peak learning rate")
    add("--processes", type=int, default=os.cpu_count() or 1, help="processes that make data")
    add("--device", default="cuda", help="torch device")
    add("--seed", type=int, default=0, help="seed of data, weights and order")
    add("--compile", action=argparse.BooleanOptionalAction, default=True, help="use torch.compile")
    return Options(**vars(parser.parse_args()))
