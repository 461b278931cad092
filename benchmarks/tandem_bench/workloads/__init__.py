"""What can be measured, by the name on the command line."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tandem_bench.bench import Bench
from tandem_bench.measurement import Outcome
from tandem_bench.workloads.accuracy import accuracy
from tandem_bench.workloads.ceilings import ceilings
from tandem_bench.workloads.latency import BATCHES, latency
from tandem_bench.workloads.mixes import TOP_P, mixed
from tandem_bench.workloads.peers import peers
from tandem_bench.workloads.prefill import first_token, prefill
from tandem_bench.workloads.prefix import prefix
from tandem_bench.workloads.seed import seed
from tandem_bench.workloads.serve import serve
from tandem_bench.workloads.soak import soak
from tandem_bench.workloads.start import start
from tandem_bench.workloads.vision_preprocess import vision_preprocess
from tandem_bench.workloads.vision_serve import vision_serve
from tandem_bench.workloads.vision_tower import vision_tower


@dataclass(frozen=True)
class Workload:
    """Something to measure.

    Attributes:
        about: One line for `--help`.
        run: Measures, and yields each result as soon as it is there.
    """

    about: str
    run: Callable[[Bench], Iterator[Outcome]]


WORKLOADS: dict[str, Workload] = {
    "ceilings": Workload("read and copy bandwidth, bf16 matmul", ceilings),
    "peers": Workload("the decode step of transformers, eager and compiled", peers),
    **{
        f"latency-{count}": Workload(
            f"ms a step of {count} sequences, 128 in, 512 out", partial(latency, num_seqs=count)
        )
        for count in BATCHES
    },
    "ttft-128": Workload("time to the first token of a prompt of 128, in the engine", first_token),
    **{
        f"prefill-{count}": Workload(f"{count} x 3968 tokens in, 1 out", partial(prefill, num_seqs=count))
        for count in (1, 16)
    },
    "mix256": Workload("256 requests of many lengths at once, greedy", partial(mixed, mix_name="mix256")),
    "mix256-top-p": Workload(
        "the same, top_p 0.95 at temperature 0.8, a seed each",
        partial(mixed, mix_name="mix256", sampling=TOP_P),
    ),
    "mix1024": Workload("1024 requests of many lengths at once, greedy", partial(mixed, mix_name="mix1024")),
    "prefix": Workload("64 requests that share 2048 tokens, with the prefix cache and without", prefix),
    "seed": Workload("25 in, 1900 out, beside transformers in the same run", seed),
    "start": Workload("process start to first token", start),
    "serve": Workload(
        "mix256 through both services, --streams at once, and by chance", partial(serve, mix_name="mix256")
    ),
    "serve-mix1024": Workload(
        "mix1024 through both services, all at once", partial(serve, mix_name="mix1024", streams=(1024,))
    ),
    "vision-preprocess": Workload("image files to pixels, on one core", vision_preprocess),
    "vision-tower": Workload("ms of the vision tower for 1 and 32 images", vision_tower),
    "vision-serve": Workload(
        "an image and 64 tokens in, 64 out, through both services: new and known images", vision_serve
    ),
    "accuracy": Workload("bf16 logits against float32, beside transformers' own", accuracy),
    "soak": Workload("--requests short random ones with cancels through both services", soak),
    "soak-demo": Workload("the same with the demo model", partial(soak, model="demo")),
}
_LATENCIES = tuple(f"latency-{count}" for count in BATCHES)
GROUPS: dict[str, tuple[str, ...]] = {
    "vision": ("vision-preprocess", "vision-tower", "vision-serve"),
    "latency": _LATENCIES,
    "engine": (
        *_LATENCIES,
        *("ttft-128", "prefill-1", "prefill-16", "mix256", "mix256-top-p", "prefix", "mix1024"),
    ),
}
"""Names that stand for several workloads."""
