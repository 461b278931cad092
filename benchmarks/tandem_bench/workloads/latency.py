"""The time of a decode step: B sequences of 128 tokens, 512 more of each."""

from collections.abc import Iterator

from tandem_bench.bench import Bench
from tandem_bench.load import Lengths
from tandem_bench.measurement import Measurement
from tandem_bench.specs import random_specs

BATCHES = (1, 16, 64, 256)
"""The numbers of sequences that a step is measured with."""
NUM_INPUT, NUM_SHORT, NUM_LONG = 128, 2, 512


def latency(bench: Bench, num_seqs: int) -> Iterator[Measurement]:
    """Milliseconds of a step of `num_seqs` sequences, greedy."""
    engine = bench.engine()
    shrink = bench.settings.shrink
    num_input, num_long = max(1, NUM_INPUT // shrink), max(NUM_SHORT + 2, NUM_LONG // shrink)
    short_s: list[float] = []

    def wall_s(num_output: int, seed: str) -> float:
        lengths = Lengths.equal(num_seqs, num_input, num_output)
        specs = random_specs(lengths, bench.settings.shape.vocab_size, f"{seed} {num_output}")
        return engine.run(specs).wall_s

    def once(seed: str) -> float:
        short_s.append(wall_s(NUM_SHORT, seed))
        return ms_per_step(wall_s(num_long, seed), short_s[-1], num_long, NUM_SHORT)

    name = f"latency-{num_seqs}"
    runs = bench.repeated(name, once, "ms/step")
    context = num_input + (NUM_SHORT + num_long) / 2
    yield Measurement(
        name=name,
        unit="ms/step",
        runs=runs,
        bound=bench.floor.decode_step_s(num_seqs, num_seqs * context) * 1e3,
        details={"num_input": num_input, "num_output": num_long, "two_tokens_s": short_s[1:]},
    )


def ms_per_step(long_s: float, short_s: float, num_long: int, num_short: int) -> float:
    """The time of one step of a run of `num_long` tokens after its first `num_short`: prefill cancels."""
    return (long_s - short_s) / (num_long - num_short) * 1e3
