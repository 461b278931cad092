"""Throughput on requests of many lengths that all come at once."""

from collections.abc import Iterator

from engine_service.sampling_params import SamplingParams
from tandem_bench.bench import Bench
from tandem_bench.load import mix
from tandem_bench.measurement import Measurement
from tandem_bench.specs import GREEDY, random_specs

TOP_P = SamplingParams(temperature=0.8, top_p=0.95)


def mixed(bench: Bench, mix_name: str, sampling: SamplingParams = GREEDY) -> Iterator[Measurement]:
    """Output tokens per second of a mix, all of whose sequences may run at once."""
    lengths = bench.lengths(mix(mix_name))
    engine = bench.engine(**({} if len(lengths.inputs) <= 256 else {"max_num_seqs": len(lengths.inputs)}))
    name = mix_name if sampling.is_greedy else f"{mix_name}-top-p"
    steps = []

    def once(seed: str) -> float:
        run = engine.run(random_specs(lengths, bench.settings.shape.vocab_size, seed, sampling))
        steps.append(run.num_steps)
        return run.num_tokens / run.wall_s

    runs = bench.repeated(name, once, "tokens/s")
    yield Measurement(
        name=name,
        unit="tokens/s",
        runs=runs,
        bound=lengths.num_output_tokens / bench.floor.requests_s(lengths),
        is_rate=True,
        details={
            "num_input_tokens": lengths.num_input_tokens,
            "num_output_tokens": lengths.num_output_tokens,
            "num_steps": steps[1:],
        },
    )
