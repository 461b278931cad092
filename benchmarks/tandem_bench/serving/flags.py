"""The flags of `tandem bench serve`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tandem.cli.flags import add_credential_flags
from tandem_bench.serving.clients import default_processes
from tandem_bench.serving.figures import Goal
from tandem_bench.serving.load_plan import parse_lengths
from tandem_bench.shapes import SHAPES

_ABOUT = """\
Measures services as their clients see them: those at --target, or those that it starts. TTFT is from
sending a request to its first delta, ITL each gap between deltas, TPOT the time after the first token for
each of the others. Warm-up is not counted. Ctrl-C shows what there is."""


def parser() -> argparse.ArgumentParser:
    """All of them."""
    made = argparse.ArgumentParser(prog="tandem bench serve", description=_ABOUT)
    _add_services(made)
    _add_load(made)
    _add_comparison(made)
    add = made.add_argument
    add("--out", type=Path, default=Path("benchmarks/results"), help="(default: benchmarks/results)")
    add("--name", default="serve", help="of the JSON file and the plot in there (default: serve)")
    add("--commit", default="", help="what is measured (default: asks git)")
    return made


def _add_services(made: argparse.ArgumentParser) -> None:
    add = made.add_argument
    add("--target", default="", metavar="ADDRESS", help="a running tokenizer service (default: starts one)")
    add_credential_flags(made)
    add("--model", default="demo", help="what the started services serve (default: demo)")
    add("--shape", choices=list(SHAPES), help="or random weights in a public shape (default: none)")
    add("--checkpoint-dir", type=Path, default=Path("/tmp/tandem-checkpoints"), help="(default: %(default)s)")
    add("--fake", action="store_true", help="start an engine without weights (default: the model's)")
    add("--fake-rate", type=float, default=50.0, help="tokens/s of a sequence; 0: all it can (default: 50)")
    add("--workers", type=int, default=1, help="tokenizer processes to start (default: 1)")
    for service in ("tokenizer", "engine"):
        add(f"--{service}-flag", action="append", default=[], metavar="FLAG", help="as in tandem serve")


def _add_load(made: argparse.ArgumentParser) -> None:
    add = made.add_argument
    add(
        "--streams", type=_checked(_counts), default=(), help="closed loops (default: 1,16,64 without --rate)"
    )
    add("--rate", type=_checked(_rates), default=(), help="Poisson arrivals/s, as in 2,8 (default: none)")
    add("--lengths", type=_checked(parse_lengths), default="mix256", metavar="LENGTHS",
        help="mix256, mix1024, latency, or IN:OUT in tokens (default: mix256)")  # fmt: skip
    add("--shrink", type=int, default=1, help="divides requests and lengths of a mix (default: 1)")
    add("--requests", type=int, default=0, help="of a load (default: 4 a stream, at least 8; 256 at a rate)")
    add("--warm-up", type=int, help="requests before each load (default: 1 a stream; 16 at a rate)")
    add("--clients", type=int, default=default_processes(),
        help="processes that make the load (default: a quarter of the cores, %(default)s)")  # fmt: skip
    add("--timeout", type=float, default=600.0, help="of one request, in seconds (default: 600)")
    add("--seed", default="0", help="of prompts and arrivals (default: 0)")
    add("--goal", type=_checked(_goal), metavar="TTFT:TPOT",
        help="also count requests that keep to both, in ms (default: none)")  # fmt: skip


def _add_comparison(made: argparse.ArgumentParser) -> None:
    add = made.add_argument
    add("--slow-readers", type=int, default=0, help="measure again beside so many of them (default: 0)")
    add("--slow-pause", type=float, default=1.0, help="after each event, in seconds (default: 1)")
    add("--repetitions", type=int, default=3, help="of that comparison (default: 3)")


def _checked(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """argparse says why a value is wrong."""

    def parse_argument(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse_argument


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_above_zero(int(each)) for each in text.split(","))


def _rates(text: str) -> tuple[float, ...]:
    return tuple(_above_zero(float(each)) for each in text.split(","))


def _above_zero(value: Any) -> Any:
    if not value > 0:
        raise ValueError(f"{value} is not above 0")
    return value


def _goal(text: str) -> Goal:
    first_ms, per_token_ms = text.split(":")
    return Goal(float(first_ms), float(per_token_ms))
