"""The speed of long prompts, and the time to the first token of a short one."""

from collections.abc import Iterator

from tandem_bench.bench import Bench
from tandem_bench.load import Lengths
from tandem_bench.measurement import Measurement, percentiles
from tandem_bench.specs import random_specs

NUM_LONG, NUM_SHORT = 3968, 128
NUM_FIRST_TOKENS = 20


def prefill(bench: Bench, num_seqs: int) -> Iterator[Measurement]:
    """Input tokens per second of `num_seqs` prompts of 3968 tokens, one token out."""
    engine = bench.engine()
    lengths = Lengths.equal(num_seqs, max(1, NUM_LONG // bench.settings.shrink), 1)

    def once(seed: str) -> float:
        run = engine.run(random_specs(lengths, bench.settings.shape.vocab_size, seed))
        return lengths.num_input_tokens / run.wall_s

    name = f"prefill-{num_seqs}"
    runs = bench.repeated(name, once, "tokens/s")
    bound = lengths.num_input_tokens / bench.floor.prefill_s(lengths.inputs)
    details = {"num_input_tokens": lengths.num_input_tokens}
    yield Measurement(name, "tokens/s", runs, bound, is_rate=True, details=details)


def first_token(bench: Bench) -> Iterator[Measurement]:
    """Milliseconds from the submission of one prompt of 128 tokens to its first token, in the engine."""
    engine = bench.engine()
    lengths = Lengths.equal(1, max(1, NUM_SHORT // bench.settings.shrink), 2)

    def once_ms(seed: str) -> float:
        run = engine.run(random_specs(lengths, bench.settings.shape.vocab_size, seed))
        return run.first_token_s[0] * 1e3

    once_ms("ttft-128 warm-up")
    runs = [once_ms(f"ttft-128 {number}") for number in range(NUM_FIRST_TOKENS)]
    bound_ms = bench.floor.prefill_s(lengths.inputs) * 1e3
    yield Measurement("ttft-128", "ms", runs, bound_ms, details=percentiles(runs, "ms"))
