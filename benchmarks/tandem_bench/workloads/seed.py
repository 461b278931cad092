"""The comparison of the project's lineage: prompts of 25 tokens, answers of 1900, beside transformers."""

from collections.abc import Iterator
from statistics import median

from tandem_bench.bench import Bench
from tandem_bench.load import Lengths
from tandem_bench.measurement import Failure, Measurement, Outcome, rounded
from tandem_bench.peers import KINDS, PeerWork, run_peer
from tandem_bench.specs import random_specs

NUM_INPUT, NUM_OUTPUT = 25, 1900


def seed(bench: Bench) -> Iterator[Outcome]:
    """Output tokens per second of the engine, then of transformers, eager and compiled."""
    settings = bench.settings
    num_output = max(2, NUM_OUTPUT // settings.shrink)
    lengths = Lengths.equal(settings.shape.num_seed_prompts, NUM_INPUT, num_output)
    engine = bench.engine()

    def once(seed: str) -> float:
        run = engine.run(random_specs(lengths, settings.shape.vocab_size, seed))
        return run.num_tokens / run.wall_s

    runs = bench.repeated("seed", once, "tokens/s")
    bound = lengths.num_output_tokens / bench.floor.requests_s(lengths)
    details = {"num_prompts": len(lengths.inputs), "num_output": num_output}
    yield Measurement("seed", "tokens/s", runs, bound, is_rate=True, details=details)
    bench.close_engine()
    work = PeerWork((len(lengths.inputs),), NUM_INPUT, num_output, repetitions=1)
    for kind in KINDS:
        result = run_peer(bench, kind, work)
        if result.error:
            yield Failure(f"seed-{kind}", result.error)
        for batch in result.batches:
            rate = batch.tokens_per_s
            times = {"engine_is_faster_by": rounded(median(runs) / max(rate))}
            yield Measurement(f"seed-{kind}", "tokens/s", rate, is_rate=True, details=times)
