"""A mix through the whole service: client, tokenizer service, engine."""

from collections.abc import Iterator
from statistics import median
from typing import Any

from tandem_bench.bench import Bench, say
from tandem_bench.load import Lengths, mix
from tandem_bench.measurement import Measurement, percentiles, rounded
from tandem_bench.process_table import Usage, service_usage
from tandem_bench.services import Addresses, running_services
from tandem_bench.specs import random_specs
from tandem_bench.streams import (
    Send,
    StreamRun,
    closed_loop,
    on_one_stream,
    poisson,
    random_requests,
    run_streams,
)

# So many requests for each stream that all are busy most of the time; a lone stream gets a few more.
REQUESTS_PER_STREAM, LEAST_REQUESTS = 4, 8
POISSON_SHARE = 0.5


def serve(bench: Bench, mix_name: str, streams: tuple[int, ...] = ()) -> Iterator[Measurement]:
    """Tokens per second, TTFT, gaps and CPU time at each number of streams, then beside the engine alone.

    Args:
        bench: What is run on what.
        mix_name: The lengths.
        streams: Numbers of streams; by default those of the command line.
    """
    lengths = bench.lengths(mix(mix_name))
    flags: dict[str, Any] = {"max_num_seqs": max(256, len(lengths.inputs))}
    prefix = "serve" if mix_name == "mix256" else f"serve-{mix_name}"
    found: dict[int, Measurement] = {}
    with running_services(bench, **flags) as addresses:
        whole = _Whole(bench, addresses)
        for num_streams in streams or bench.settings.streams:
            some = lengths.first(max(LEAST_REQUESTS, REQUESTS_PER_STREAM * num_streams))
            found[num_streams] = whole.measure(f"{prefix}-{num_streams}", some, closed_loop(num_streams))
            yield found[num_streams]
        yield whole.measure(f"{prefix}-many", lengths, on_one_stream(len(lengths.inputs)))
        capacity = (
            max(each.median for each in found.values()) / lengths.num_output_tokens * len(lengths.inputs)
        )
        rate = bench.settings.rate or POISSON_SHARE * capacity
        yield whole.measure(f"{prefix}-poisson", lengths, poisson(rate, prefix), {"requests_per_s": rate})
    yield from _beside_engine(bench, prefix, lengths, flags, found)


class _Whole:
    """Measures what goes through the services."""

    def __init__(self, bench: Bench, addresses: Addresses) -> None:
        self._bench = bench
        self._addresses = addresses

    def measure(
        self, name: str, lengths: Lengths, send: Send, details: dict[str, float] | None = None
    ) -> Measurement:
        runs: list[StreamRun] = []
        vocab_size = self._bench.settings.shape.vocab_size
        usages = []

        def once(seed: str) -> float:
            requests = random_requests(lengths, vocab_size, seed)
            usages.append(service_usage())
            runs.append(run_streams(self._addresses.tokenizer, requests, send))
            return runs[-1].tokens_per_s

        rates = self._bench.repeated(name, once, "tokens/s")
        usages.append(service_usage())
        times = [times for run in runs[1:] for times in run.times]
        found: dict[str, object] = {
            "num_requests": len(lengths.inputs),
            "ttft": percentiles([each.first_ms for each in times if each.arrivals_s], "ms"),
            "itl": percentiles([gap for each in times for gap in each.gaps_ms], "ms"),
            "cpu_s_per_million_tokens": _cpu_per_million(
                usages[1], usages[-1], sum(run.num_tokens for run in runs[1:])
            ),
        }
        return Measurement(name, "tokens/s", rates, is_rate=True, details=found | (details or {}))


def _cpu_per_million(before: dict[str, Usage], after: dict[str, Usage], num_tokens: int) -> dict[str, float]:
    return {role: rounded((after[role].cpu_s - before[role].cpu_s) / num_tokens * 1e6) for role in after}


def _beside_engine(
    bench: Bench, prefix: str, lengths: Lengths, flags: dict[str, Any], found: dict[int, Measurement]
) -> Iterator[Measurement]:
    """What the services take from the engine's throughput, and add to its time to the first token."""
    say("the same in the engine alone")
    engine = bench.engine(**flags)
    vocab_size = bench.settings.shape.vocab_size

    def once(seed: str) -> float:
        run = engine.run(random_specs(lengths, vocab_size, seed))
        return run.num_tokens / run.wall_s

    own = median(bench.repeated(f"{prefix} engine", once, "tokens/s"))
    for num_streams, served in found.items():
        if num_streams >= len(lengths.inputs):
            shares = [100 * run / own for run in served.runs]
            details = {"engine_tokens_per_s": rounded(own)}
            yield Measurement(f"{prefix}-{num_streams}-share", "% of engine", shares, details=details)
    if 1 in found:
        alone = lengths.first(LEAST_REQUESTS)
        specs = random_specs(alone, vocab_size, f"{prefix} first tokens")
        engine_ms = median(engine.run([spec]).first_token_s[0] * 1e3 for spec in specs)
        served_ms = found[1].details["ttft"]["p50_ms"]
        details = {"engine_p50_ms": rounded(engine_ms), "served_p50_ms": served_ms}
        yield Measurement(f"{prefix}-ttft-added", "ms", [served_ms - engine_ms], details=details)
