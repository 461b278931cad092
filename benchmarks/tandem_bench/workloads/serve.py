"""A mix through the whole service: client, tokenizer service, engine; then in the engine alone."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from tandem_bench.bench import Bench, say
from tandem_bench.engine_driver import Run
from tandem_bench.load import Lengths, mix
from tandem_bench.measurement import Measurement, percentiles, rounded
from tandem_bench.services import running_services
from tandem_bench.serving.clients import Clients
from tandem_bench.serving.figures import Figures, latencies
from tandem_bench.serving.load_plan import LEAST_REQUESTS, REQUESTS_PER_STREAM, Load
from tandem_bench.serving.run import Work, measure
from tandem_bench.serving.server import plain_server
from tandem_bench.serving.timed_answer import TimedAnswer
from tandem_bench.specs import random_specs

POISSON_SHARE = 0.5


@dataclass(frozen=True)
class _Served:
    """What was measured through the services.

    Attributes:
        answers: Those of the counted runs.
    """

    num_streams: int
    measurement: Measurement
    answers: list[TimedAnswer]


def serve(bench: Bench, mix_name: str, streams: tuple[int, ...] = ()) -> Iterator[Measurement]:
    """Tokens per second, TTFT, gaps and CPU time at each number of workers and streams, beside the engine.

    Args:
        bench: What is run on what.
        mix_name: The lengths.
        streams: Numbers of streams; by default those of the command line.
    """
    lengths = bench.lengths(mix(mix_name))
    flags: dict[str, Any] = {"max_num_seqs": max(256, len(lengths.inputs))}
    prefix = "serve" if mix_name == "mix256" else f"serve-{mix_name}"
    found: list[_Served] = []
    for num_workers in bench.settings.workers:
        suffix = "" if num_workers == 1 else f"-workers-{num_workers}"
        suffix += "-busy-poll" if bench.settings.busy_poll_ms else ""
        with (
            running_services(bench, num_workers=num_workers, **flags) as addresses,
            Clients(plain_server(addresses.tokenizer), bench.settings.num_clients) as clients,
        ):
            for num_streams in streams or bench.settings.streams:
                load = Load(num_streams=num_streams, num_requests=_num_requests(num_streams, lengths))
                name = f"{prefix}-{num_streams}{suffix}"
                found.append(_through(bench, clients, name, lengths, load))
                yield found[-1].measurement
            rate = bench.settings.rate or POISSON_SHARE * _capacity(found, lengths)
            load = Load(rate=rate, num_requests=len(lengths.inputs))
            yield _through(bench, clients, f"{prefix}-poisson{suffix}", lengths, load).measurement
    yield from _beside_engine(bench, prefix, lengths, flags, found)


def _num_requests(num_streams: int, lengths: Lengths) -> int:
    """As many as the mix has, unless a few streams would take too long for them."""
    return min(len(lengths.inputs), max(LEAST_REQUESTS, REQUESTS_PER_STREAM * num_streams))


def _capacity(found: list[_Served], lengths: Lengths) -> float:
    """Requests per second of the fastest so far."""
    tokens_per_s = max(each.measurement.median for each in found)
    return tokens_per_s / lengths.num_output_tokens * len(lengths.inputs)


def _through(bench: Bench, clients: Clients, name: str, lengths: Lengths, load: Load) -> _Served:
    vocab_size = bench.settings.shape.vocab_size
    runs: list[Figures] = []

    def once(seed: str) -> float:
        runs.append(measure(clients, Work(lengths, vocab_size, seed), load, num_warm_up=0))
        if runs[-1].was_interrupted:
            raise KeyboardInterrupt
        if errors := runs[-1].errors():
            raise RuntimeError(f"{name}: requests failed: {errors}")
        return runs[-1].output_tokens_per_s

    rates = bench.repeated(name, once, "tokens/s")
    counted = runs[1:]
    answers = [answer for run in counted for answer in run.answers]
    details = {
        "load": load.name,
        "num_requests": len(counted[0].answers),
        **latencies(answers),
        "cpu": [run.cpu.to_json(run.num_output, run.wall_s) for run in counted],
    }
    measurement = Measurement(name, "tokens/s", rates, is_rate=True, details=details)
    return _Served(load.num_streams, measurement, answers)


def _beside_engine(
    bench: Bench, prefix: str, lengths: Lengths, flags: dict[str, Any], found: list[_Served]
) -> Iterator[Measurement]:
    """What the services take from the engine's throughput, and add to its times."""
    say("the same in the engine alone")
    engine = bench.engine(**flags)
    vocab_size = bench.settings.shape.vocab_size
    gaps_ms: list[list[float]] = []

    def once(seed: str) -> float:
        run = engine.run(random_specs(lengths, vocab_size, seed))
        gaps_ms.append(run.gaps_ms)
        return run.num_tokens / run.wall_s

    own = median(bench.repeated(f"{prefix} engine", once, "tokens/s"))
    together = _percentiles_of(gaps_ms[1:])
    alone: dict[int, list[Run]] = defaultdict(list)  # one sequence each, by the length of its prompt
    for number in range(bench.settings.repetitions):
        for spec in random_specs(lengths.first(LEAST_REQUESTS), vocab_size, f"{prefix} alone {number}"):
            alone[len(spec.token_ids)].append(engine.run([spec]))
    lone = _percentiles_of([run.gaps_ms for runs in alone.values() for run in runs])
    for served in found:
        name, details = served.measurement.name, served.measurement.details
        if served.num_streams >= len(lengths.inputs):
            shares = [100 * run / own for run in served.measurement.runs]
            engine_details = {"engine_tokens_per_s": rounded(own)}
            yield Measurement(f"{name}-share", "% of engine", shares, details=engine_details)
            yield _added(f"{name}-itl-added", "p99_ms", details["itl"], together)
        if served.num_streams == 1:
            yield _added_first(f"{name}-ttft-added", served.answers, alone)
            yield _added(f"{name}-itl-added", "p99_ms", details["itl"], lone)


def _added(name: str, key: str, served: dict[str, float], engine: dict[str, float]) -> Measurement:
    details = {f"engine_{key}": rounded(engine.get(key, 0.0)), f"served_{key}": served.get(key, 0.0)}
    return Measurement(name, "ms", [served.get(key, 0.0) - engine.get(key, 0.0)], details=details)


def _added_first(name: str, answers: list[TimedAnswer], alone: dict[int, list[Run]]) -> Measurement:
    """What first tokens take more than in the engine alone, each beside prompts of its own length."""
    engine_ms = {num_input: [run.first_token_s[0] * 1e3 for run in runs] for num_input, runs in alone.items()}
    added_ms = [answer.first_ms - median(engine_ms[answer.num_input]) for answer in answers]
    details = {
        "engine_p50_ms": rounded(median(itertools.chain(*engine_ms.values()))),
        "served_p50_ms": rounded(median(answer.first_ms for answer in answers)),
    }
    return Measurement(name, "ms", added_ms, details=details)


def _percentiles_of(runs: list[list[float]]) -> dict[str, float]:
    return percentiles([gap for run in runs for gap in run], "ms")
