"""Pictures through both services: throughput of many at once, and the time to the first token of one."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from tandem_bench.bench import Bench
from tandem_bench.image_streams import ImageRun, image_requests, run_images
from tandem_bench.llava_shape import seeing
from tandem_bench.load import Lengths
from tandem_bench.measurement import Measurement, percentiles, rounded
from tandem_bench.services import running_services
from tandem_bench.vision_floor import VisionFloor

NUM_AT_ONCE, NUM_LETTERS, NUM_OUTPUT = 64, 64, 64
# One at a time, of which only the first tokens are timed.
NUM_ALONE, NUM_OUTPUT_ALONE = 16, 2


@dataclass(frozen=True)
class Kind:
    """What of its requests the services have seen in the run before; the rest is new in every run."""

    name: str
    has_known_image: bool
    has_known_text: bool


KINDS = (
    Kind("fresh", has_known_image=False, has_known_text=False),
    Kind("repeated", has_known_image=True, has_known_text=True),
    # The text behind the image, so that the prefix cache has the image's part of the prompt.
    Kind("repeated-other-text", has_known_image=True, has_known_text=False),
)


def vision_serve(bench: Bench) -> Iterator[Measurement]:
    """Images per second of 64 requests at once, and the time to the first token of lone ones, in turn with
    new pictures, with those of the run before, and with those and another text.
    """
    work = _Work(bench)
    with running_services(bench) as addresses:
        for kind in KINDS:
            yield work.throughput(kind, addresses.tokenizer)
        for kind in KINDS:
            yield work.first_token(kind, addresses.tokenizer)


class _Work:
    """The workload's lengths, and its floor."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        shape, shrink = seeing(bench.settings.shape), bench.settings.shrink
        self._num_letters = max(1, NUM_LETTERS // shrink)
        self._num_output = max(2, NUM_OUTPUT // shrink)
        self._num_at_once = max(2, NUM_AT_ONCE // shrink)
        self._num_alone = max(2, NUM_ALONE // shrink)
        self._num_prompt = shape.tower.num_patches + self._num_letters
        self._vision = VisionFloor(shape, bench.ceilings, bench.settings.torch_dtype.itemsize)

    def throughput(self, kind: Kind, target: str) -> Measurement:
        """All requests at once."""
        count = self._num_at_once
        runs: list[ImageRun] = []

        def once(seed: str) -> float:
            runs.append(self._run(kind, target, seed, count, self._num_output, num_at_once=count))
            return count / runs[-1].wall_s

        name = f"vision-{kind.name}"
        rates = self._bench.repeated(name, once, "images/s")
        bound_s = self._prompts_s(kind, count)
        bound_s += self._bench.floor.answers_s(Lengths.equal(count, self._num_prompt, self._num_output))
        details = self._details(runs[1:], count) | {"num_output": self._num_output}
        return Measurement(name, "images/s", rates, count / bound_s, is_rate=True, details=details)

    def first_token(self, kind: Kind, target: str) -> Measurement:
        """One request after another."""
        runs: list[ImageRun] = []

        def once(seed: str) -> float:
            runs.append(self._run(kind, target, seed, self._num_alone, NUM_OUTPUT_ALONE, num_at_once=1))
            return statistics.median(runs[-1].first_ms)

        name = f"vision-ttft-{kind.name}"
        medians_ms = self._bench.repeated(name, once, "ms")
        bound_ms = self._prompts_s(kind, 1) * 1e3
        return Measurement(name, "ms", medians_ms, bound_ms, details=self._details(runs[1:], self._num_alone))

    def _run(
        self, kind: Kind, target: str, seed: str, count: int, num_output: int, *, num_at_once: int
    ) -> ImageRun:
        files = f"known {num_at_once}" if kind.has_known_image else seed
        letters = f"known {num_at_once}" if kind.has_known_text else seed
        requests = image_requests(count, self._num_letters, num_output, files=files, letters=letters)
        return run_images(target, requests, num_at_once, self._num_prompt)

    def _prompts_s(self, kind: Kind, count: int) -> float:
        """The least time for what is not known of prompts; preprocessing has no part in it."""
        prefill_s = self._bench.floor.prefill_s
        if not kind.has_known_image:
            return self._vision.see_s(count) + prefill_s([self._num_prompt] * count)
        return prefill_s([1 if kind.has_known_text else self._num_letters] * count)

    def _details(self, runs: list[ImageRun], count: int) -> dict[str, object]:
        return {
            "num_requests": count,
            "num_prompt": self._num_prompt,
            "num_cached": [run.num_cached for run in runs],
            "wall_s": [rounded(run.wall_s) for run in runs],
            "ttft": percentiles([each for run in runs for each in run.first_ms], "ms"),
            "engine_prefill": percentiles([each for run in runs for each in run.prefill_ms], "ms"),
        }
