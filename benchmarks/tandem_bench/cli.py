"""The command line of the benchmarks."""

import argparse
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from tandem_bench import report
from tandem_bench.bench import Bench, say
from tandem_bench.measurement import Failure
from tandem_bench.results import Results
from tandem_bench.serving.clients import default_processes
from tandem_bench.settings import Settings, best_device, parse_engine_flags
from tandem_bench.shapes import SHAPES
from tandem_bench.workloads import GROUPS, WORKLOADS


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs workloads, or `report`; returns 1 if something could not be measured.

    Args:
        arguments: The command line without the program's name; by default the process's own.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["report"]:
        return report.main(given[1:])
    parsed = _parser().parse_args(given)
    names = [name for each in parsed.workloads for name in GROUPS.get(each, (each,))]
    bench = Bench(_settings(parsed))
    name = parsed.name or ".".join([parsed.shape, *parsed.workloads])
    results = Results(bench, name, parsed.out, parsed.commit)
    say(f"{parsed.shape} on {bench.settings.device}, {bench.settings.dtype}: {bench.ceilings}")
    for workload in names:
        _run(workload, bench, results)
    bench.close_engine()
    print(results.table())
    print(f"written to {results.path}")
    return int(results.has_failures)


def _run(name: str, bench: Bench, results: Results) -> None:
    say(f"== {name}")
    failure = None
    try:
        for outcome in WORKLOADS[name].run(bench):
            results.add(outcome)
    except Exception as error:
        # A run on a lent machine goes on with its other workloads, whatever broke.
        traceback.print_exc()
        failure = Failure(name, f"{type(error).__name__}: {error}")
    if failure is not None:
        # Only now: the exception's frames held the engine's memory.
        bench.close_engine()
        results.add(failure)


def _settings(parsed: argparse.Namespace) -> Settings:
    device = best_device() if parsed.device == "auto" else parsed.device
    return Settings(
        shape=SHAPES[parsed.shape],
        device=device,
        dtype=parsed.dtype or ("float32" if device == "cpu" else "bfloat16"),
        repetitions=parsed.repetitions,
        shrink=parsed.shrink,
        checkpoint_dir=parsed.checkpoint_dir,
        engine_flags=parse_engine_flags(parsed.engine_flag),
        peer_timeout_s=parsed.peer_timeout,
        streams=parsed.streams,
        rate=parsed.rate,
        workers=parsed.workers,
        num_clients=parsed.clients,
        num_requests=parsed.requests,
        busy_poll_ms=parsed.busy_poll_ms,
    )


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<14} {each.about}" for name, each in WORKLOADS.items())
    groups = "\n".join(f"  {name:<14} {', '.join(each)}" for name, each in GROUPS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tandem_bench",
        description="Measures Tandem with random weights in a public shape. Results are written after every\n"
        "measurement. `python -m tandem_bench report` redraws the README from them.",
        epilog=f"workloads:\n{listed}\n\nseveral at once:\n{groups}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("workloads", nargs="+", choices=[*WORKLOADS, *GROUPS], metavar="WORKLOAD", help="what to measure")
    add("--shape", choices=list(SHAPES), default="Llama-3.2-1B", help="of the model (default: Llama-3.2-1B)")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: a GPU if there is one)")
    add("--dtype", default="", help="(default: bfloat16 on a GPU, float32 on a CPU)")
    add("--out", type=Path, default=Path("benchmarks/results"), help="(default: benchmarks/results)")
    add("--name", default=None, type=_file_stem, help="of the result (default: shape and workloads)")
    add("--commit", default="", help="what is measured (default: asks git)")
    add("--repetitions", type=_at_least_one, default=3, help="counted runs of each (default: 3)")
    add("--shrink", type=_at_least_one, default=1, help="divides requests and lengths (default: 1)")
    add("--checkpoint-dir", type=Path, default=Path("/tmp/tandem-checkpoints"), help="(default: %(default)s)")
    add("--engine-flag", action="append", default=[], metavar="FLAG", help="as in --engine-flag=--name=value")
    add("--peer-timeout", type=float, default=240.0, help="of a peer's process, in seconds (default: 240)")
    add("--streams", type=_counts, default=(1, 16, 64, 256), help="of serve (default: 1,16,64,256)")
    add("--rate", type=float, default=0.0, help="of serve, requests/s (default: half of the capacity)")
    add("--workers", type=_counts, default=(1,), help="tokenizer processes, as in 1,2,4,8 (default: 1)")
    add("--clients", type=_at_least_one, default=default_processes(), help="of serve (default: %(default)s)")
    add("--requests", type=_at_least_one, default=20_000, help="of soak (default: 20000)")
    add("--busy-poll-ms", type=float, default=0.0, help="of both services (default: 0)")
    return parser


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is less than 1")
    return value


def _counts(text: str) -> tuple[int, ...]:
    return tuple(_at_least_one(each) for each in text.split(","))


def _file_stem(text: str) -> str:
    if not re.fullmatch(r"[\w.-]+", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no file name of letters, digits, '.', '_' and '-'")
    return text
