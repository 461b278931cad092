"""The loads of a run: numbers of streams, or rates of arrival, and the requests of each."""

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tandem_bench.load import Lengths, mix, random_prompts
from tandem_bench.serving.job import Job
from tandem_bench.serving.timed_answer import TimedRequest

# So many requests for each stream that all are busy most of the time; a lone stream gets a few more.
REQUESTS_PER_STREAM, LEAST_REQUESTS = 4, 8
NUM_AT_A_RATE = 256
# Connections that requests at a rate take turns on.
NUM_CONNECTIONS = 64


@dataclass(frozen=True)
class Load:
    """One load: a closed loop of `num_streams`, or Poisson arrivals at `rate` requests a second.

    Attributes:
        num_requests: Of the whole load; 0 takes a number that fits it.
    """

    num_streams: int = 0
    rate: float = 0.0
    num_requests: int = 0

    @property
    def name(self) -> str:
        """For tables and plots."""
        if self.rate:
            return f"{self.rate:g} requests/s"
        return "1 stream" if self.num_streams == 1 else f"{self.num_streams} streams"

    def job(self, lengths: Lengths, vocab_size: int, seed: str, timeout_s: float) -> Job:
        """Its requests: the lengths over and over, prompts of random ids."""
        count = self.num_requests or (
            NUM_AT_A_RATE if self.rate else max(LEAST_REQUESTS, REQUESTS_PER_STREAM * self.num_streams)
        )
        pairs = list(
            itertools.islice(itertools.cycle(zip(lengths.inputs, lengths.outputs, strict=True)), count)
        )
        prompts = random_prompts([num_input for num_input, _ in pairs], vocab_size, seed)
        due_s = _arrivals(self.rate, count, seed) if self.rate else [None] * count
        requests = tuple(
            TimedRequest(prompt, num_output, due)
            for prompt, (_, num_output), due in zip(prompts, pairs, due_s, strict=True)
        )
        return Job(requests, min(self.num_streams or NUM_CONNECTIONS, count), timeout_s=timeout_s)


def parse_lengths(text: str) -> Lengths:
    """`mix256`, `mix1024`, `latency`, or `IN:OUT` for requests of the same lengths.

    Raises:
        ValueError: It is none of these.
    """
    if text in ("mix256", "mix1024"):
        return mix(text)
    if text == "latency":
        return Lengths.equal(1, 128, 512)
    match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text)
    if match is None:
        raise ValueError(f"{text!r} is none of mix256, mix1024, latency and IN:OUT")
    return Lengths.equal(1, int(match[1]), int(match[2]))


def _arrivals(rate: float, count: int, seed: str) -> Sequence[float]:
    """Seconds after the start at which requests are sent; the gaps are exponential."""
    source = random.Random(f"arrivals {seed}")
    return list(itertools.accumulate(source.expovariate(rate) for _ in range(count)))
