"""The decode step of transformers, eager and compiled."""

from collections.abc import Iterator

from tandem_bench.bench import Bench
from tandem_bench.measurement import Failure, Measurement, Outcome
from tandem_bench.peers import COMPILED, EAGER, PeerWork, run_peer
from tandem_bench.workloads.latency import BATCHES, NUM_INPUT

# Numbers of sequences that share a process, and how many tokens each is to make. Compiled, each number has a
# process of its own, and with it code for that number alone: a second one would be compiled for any number.
WORK = [(EAGER, BATCHES, 64), *((COMPILED, (num_seqs,), 256) for num_seqs in BATCHES)]


def peers(bench: Bench) -> Iterator[Outcome]:
    """Milliseconds of a step after prompts as long as those of `latency`."""
    shrink = bench.settings.shrink
    bench.close_engine()
    for kind, batches, num_output in WORK:
        work = PeerWork(
            batches,
            max(1, NUM_INPUT // shrink),
            max(2, num_output // shrink),
            repetitions=bench.settings.repetitions,
        )
        result = run_peer(bench, kind, work)
        for batch in result.batches:
            yield Measurement(f"latency-{batch.num_seqs}-{kind}", "ms/step", batch.ms_per_step)
        if result.error:
            yield Failure(f"latency-{kind}", f"{batches} sequences: {result.error}")
