"""What the prefix cache buys: 64 requests that share a prefix of 2048 tokens."""

from collections.abc import Iterator

from tandem_bench.bench import Bench
from tandem_bench.load import Lengths, random_prompts
from tandem_bench.measurement import Measurement, percentiles
from tandem_bench.specs import specs_of

NUM_SEQS, NUM_PREFIX, NUM_OWN, NUM_OUTPUT = 64, 2048, 64, 64


def prefix(bench: Bench) -> Iterator[Measurement]:
    """Time to first token and output tokens per second, without and with the cache."""
    own = bench.lengths(Lengths.equal(NUM_SEQS, NUM_OWN, NUM_OUTPUT))
    num_prefix = max(1, NUM_PREFIX // bench.settings.shrink)
    for is_cached in (False, True):
        yield from _measure(bench, own, num_prefix, is_cached)


def _measure(bench: Bench, own: Lengths, num_prefix: int, is_cached: bool) -> Iterator[Measurement]:
    engine = bench.engine(prefix_caching=is_cached)
    vocab_size = bench.settings.shape.vocab_size
    first_ms: list[list[float]] = []
    cached = []

    def once(seed: str) -> float:
        # Fresh in every run: it is computed by the first request, and shared by the others.
        (shared,) = random_prompts([num_prefix], vocab_size, f"{seed} prefix")
        prompts = [shared + each for each in random_prompts(own.inputs, vocab_size, seed)]
        run = engine.run(specs_of(prompts, own.outputs))
        first_ms.append([each * 1e3 for each in run.first_token_s])
        cached.append(run.num_cached)
        return run.num_tokens / run.wall_s

    name = f"prefix-{'cached' if is_cached else 'uncached'}"
    runs = bench.repeated(name, once, "tokens/s")
    details = {"num_prefix": num_prefix, "num_requests": len(own.inputs), "num_cached": cached[1:]}
    yield Measurement(name, "tokens/s", runs, is_rate=True, details=details)
    medians_ms = [percentiles(each, "ms")["p50_ms"] for each in first_ms[1:]]
    pooled = [each for run in first_ms[1:] for each in run]
    yield Measurement(f"{name}-ttft", "ms", medians_ms, details=percentiles(pooled, "ms"))
