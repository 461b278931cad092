"""The comparison of the project's lineage: prompts of 25 tokens, answers of 1900, beside transformers."""

from collections.abc import Iterator

from tandem_bench.bench import Bench
from tandem_bench.load import Lengths
from tandem_bench.measurement import Failure, Measurement, Outcome, rounded
from tandem_bench.peers import KINDS, PeerWork, run_peer
from tandem_bench.specs import random_specs

NUM_INPUT, NUM_OUTPUT = 25, 1900


def seed(bench: Bench) -> Iterator[Outcome]:
    """Output tokens per second of transformers, eager and compiled, then of the engine."""
    settings = bench.settings
    num_output = max(2, NUM_OUTPUT // settings.shrink)
    lengths = Lengths.equal(settings.shape.num_seed_prompts, NUM_INPUT, num_output)
    work = PeerWork((len(lengths.inputs),), NUM_INPUT, num_output, repetitions=1)
    rates = {}
    bench.close_engine()
    for kind in KINDS:
        result = run_peer(bench, kind, work)
        if result.error:
            yield Failure(f"seed-{kind}", result.error)
        for batch in result.batches:
            rates[kind] = batch.tokens_per_s
            yield Measurement(f"seed-{kind}", "tokens/s", batch.tokens_per_s, is_rate=True)
    engine = bench.engine()

    def once(seed: str) -> float:
        run = engine.run(random_specs(lengths, settings.shape.vocab_size, seed))
        return run.num_tokens / run.wall_s

    runs = bench.repeated("seed", once, "tokens/s")
    bound = lengths.num_output_tokens / bench.floor.requests_s(lengths)
    found = Measurement("seed", "tokens/s", runs, bound, is_rate=True)
    times = {f"times_{kind}": rounded(found.median / max(rate)) for kind, rate in rates.items()}
    details = {"num_prompts": len(lengths.inputs), "num_output": num_output, **times}
    yield Measurement("seed", "tokens/s", runs, bound, is_rate=True, details=details)
