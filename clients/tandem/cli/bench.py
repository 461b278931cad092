"""`tandem bench`: the engine beside transformers; `tandem bench serve`: services under load."""

import argparse
import importlib.util
import signal
import subprocess
import sys

from tandem.cli.flags import Commands

# Packages whose absence means that an extra is not installed.
_NEEDS = {"tokenizer": ("tokenizers", "transformers"), "engine": ("safetensors", "torch")}
_MODULE = "tandem_bench"


def add_command(commands: Commands, default_target: str | None) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "bench",
        help="measure the engine beside transformers, or services under load",
        description="Makes a checkpoint of random weights in a public shape, lets transformers (eager and "
        "compiled) and then the engine continue the same prompts of 25 tokens by 1900, and writes a table "
        "and a JSON file. tandem bench serve measures services; python -m tandem_bench --help lists "
        "everything else that can be measured.",
    )
    parser.add_argument(
        "--shape",
        default="Llama-3.2-1B",
        metavar="NAME",
        help="the model's shape: Llama-3.2-1B, Llama-3.2-3B, … (default: Llama-3.2-1B)",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to run (default: auto, a GPU if there is one)",
    )
    parser.add_argument(
        "--out",
        default="benchmarks/results",
        metavar="DIRECTORY",
        help="where the JSON file goes (default: benchmarks/results)",
    )
    parser.add_argument(
        "--shrink",
        type=int,
        default=1,
        metavar="NUMBER",
        help="divides the tokens of each answer, to try it out (default: 1)",
    )
    parser.set_defaults(run=run)
    serving = parser.add_subparsers(title="what else to measure", metavar="[serve]").add_parser(
        "serve",
        help="services under load, as clients see them (--help has its flags)",
        add_help=False,
        # Nothing is a flag here: all of them belong to the process that measures.
        prefix_chars="\0",
    )
    serving.add_argument("flags", nargs="*")
    serving.set_defaults(run=run_serve)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    names = ("shape", "device", "out", "shrink")
    return _run_module(_MODULE, "seed", *(f"--{name}={getattr(arguments, name)}" for name in names))


def run_serve(arguments: argparse.Namespace) -> int:
    """Runs `tandem bench serve`."""
    return _run_module(f"{_MODULE}.serving", *arguments.flags)


def _run_module(module: str, *flags: str) -> int:
    """In a process of its own: this package imports neither torch nor the engine."""
    if missing := _missing():
        print(f"tandem: the benchmark is not installed here: pip install '{missing}'", file=sys.stderr)
        return 1
    process = subprocess.Popen([sys.executable, "-m", module, *flags])
    # It ends what it has started, shows what it has, and would otherwise go on without us.
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            # It has heard the same Ctrl-C, and shows what it has.
            continue


def _missing() -> str:
    """What would have to be installed; empty if nothing."""
    extras = [
        extra
        for extra, packages in _NEEDS.items()
        if any(importlib.util.find_spec(package) is None for package in packages)
    ]
    if importlib.util.find_spec(_MODULE) is None:
        extras = list(_NEEDS)
    return f"tandem-llm[{','.join(extras)}]" if extras else ""
