"""A client's streams: sent at once, some at a time, or as they arrive by chance, and timed."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import tandem
from tandem_bench.load import Lengths, random_prompts


@dataclass(frozen=True)
class StreamRequest:
    """A greedy request that stops on length only."""

    token_ids: tuple[int, ...]
    num_output: int


@dataclass
class StreamTimes:
    """When the parts of one answer came, by the client's clock.

    Attributes:
        arrivals_s: One for each delta; none where only the whole answer was seen.
        num_tokens: Of all deltas.
    """

    start_s: float
    arrivals_s: list[float] = field(default_factory=list)
    num_tokens: int = 0

    @property
    def first_ms(self) -> float:
        """Time to the first token."""
        return (self.arrivals_s[0] - self.start_s) * 1e3

    @property
    def gaps_ms(self) -> list[float]:
        """Between one delta and the next."""
        pairs = zip(self.arrivals_s, self.arrivals_s[1:], strict=False)
        return [(later - earlier) * 1e3 for earlier, later in pairs]


@dataclass(frozen=True)
class StreamRun:
    """All streams of one run."""

    wall_s: float
    times: list[StreamTimes]

    @property
    def num_tokens(self) -> int:
        """Tokens of all answers."""
        return sum(each.num_tokens for each in self.times)

    @property
    def tokens_per_s(self) -> float:
        """Over the whole run."""
        return self.num_tokens / self.wall_s


Send = Callable[[tandem.AsyncClient, Sequence[StreamRequest]], Awaitable[list[StreamTimes]]]


def random_requests(lengths: Lengths, vocab_size: int, seed: str) -> list[StreamRequest]:
    """Requests of random ids."""
    prompts = random_prompts(lengths.inputs, vocab_size, seed)
    return [StreamRequest(*pair) for pair in zip(prompts, lengths.outputs, strict=True)]


def run_streams(target: str, requests: Sequence[StreamRequest], send: Send) -> StreamRun:
    """Sends requests one way and reads them to their ends.

    Raises:
        TandemError: A request failed.
        RuntimeError: Tokens are missing.
    """

    async def run() -> StreamRun:
        async with tandem.AsyncClient(target, retries=0) as client:
            await client.models()  # connects
            start_s = time.perf_counter()
            times = await send(client, requests)
            return StreamRun(time.perf_counter() - start_s, times)

    found = asyncio.run(run())
    expected = sum(request.num_output for request in requests)
    if found.num_tokens != expected:
        raise RuntimeError(f"{found.num_tokens} tokens came, not {expected}")
    return found


def closed_loop(num_streams: int) -> Send:
    """`num_streams` at a time: the next request begins when one ends."""

    async def send(client: tandem.AsyncClient, requests: Sequence[StreamRequest]) -> list[StreamTimes]:
        waiting = iter(requests)

        async def one_stream() -> list[StreamTimes]:
            return [await _read(client, request) for request in waiting]

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one_stream()) for _ in range(num_streams)]
        return [times for task in tasks for times in task.result()]

    return send


def poisson(rate: float, seed: str) -> Send:
    """Requests that arrive at random, `rate` of them a second on average, however many run."""

    async def send(client: tandem.AsyncClient, requests: Sequence[StreamRequest]) -> list[StreamTimes]:
        source = random.Random(seed)
        due_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = []
            for request in requests:
                due_s += source.expovariate(rate)
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                tasks.append(group.create_task(_read(client, request)))
        return [task.result() for task in tasks]

    return send


def on_one_stream(num_running: int) -> Send:
    """All requests through GenerateMany, which says only when each has ended."""

    async def send(client: tandem.AsyncClient, requests: Sequence[StreamRequest]) -> list[StreamTimes]:
        many = [
            tandem.Request(
                token_ids=each.token_ids, max_tokens=each.num_output, temperature=0.0, ignore_eos=True
            )
            for each in requests
        ]
        start_s = time.perf_counter()
        found = []
        async for result in client.generate_many(many, max_running=num_running):
            num_tokens = result.unwrap().usage.completion_tokens
            found.append(StreamTimes(start_s, num_tokens=num_tokens))
        return found

    return send


async def _read(client: tandem.AsyncClient, request: StreamRequest) -> StreamTimes:
    times = StreamTimes(time.perf_counter())
    stream = client.stream(
        token_ids=request.token_ids, max_tokens=request.num_output, temperature=0.0, ignore_eos=True
    )
    async for event in stream:
        if isinstance(event, tandem.Delta):
            times.arrivals_s.append(time.perf_counter())
            times.num_tokens += event.num_tokens
    return times
