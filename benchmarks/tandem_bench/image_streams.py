"""A client's requests with a picture each, from the bytes of its file to the last token."""

import asyncio
import random
import string
import time
from collections.abc import Sequence
from dataclasses import dataclass

import tandem
from tandem_bench.pictures import noise_jpegs


@dataclass(frozen=True)
class ImageRequest:
    """A greedy request that stops on length only.

    Attributes:
        prompt: A placeholder, and letters, of which each is a token.
        file: The picture.
    """

    prompt: str
    file: bytes
    num_output: int


@dataclass(frozen=True)
class ImageRun:
    """What came of some requests.

    Attributes:
        wall_s: From the first request to the last token.
        first_ms: Of each request, from sending it to its first token.
        prefill_ms: What the engine took of that, from the request's first step.
        num_cached: Prompt tokens that came from the prefix cache.
    """

    wall_s: float
    first_ms: list[float]
    prefill_ms: list[float]
    num_cached: int


@dataclass(frozen=True)
class _Answer:
    first_ms: float
    usage: tandem.Usage
    timings: tandem.Timings


def image_requests(
    count: int, num_letters: int, num_output: int, *, files: str, letters: str
) -> list[ImageRequest]:
    """Requests whose pictures and letters are drawn from these two seeds."""
    source = random.Random(letters)
    prompts = ["<image>" + "".join(source.choices(string.ascii_letters, k=num_letters)) for _ in range(count)]
    return [
        ImageRequest(prompt, file, num_output)
        for prompt, file in zip(prompts, noise_jpegs(count, files), strict=True)
    ]


def run_images(target: str, requests: Sequence[ImageRequest], num_at_once: int, num_prompt: int) -> ImageRun:
    """Sends requests, `num_at_once` at a time, and reads them to their ends.

    Raises:
        TandemError: A request failed.
        RuntimeError: Prompts are not of `num_prompt` tokens, or answers are short.
    """

    async def run() -> tuple[float, list[_Answer]]:
        async with tandem.AsyncClient(target, retries=0) as client:
            await client.models()  # connects
            start_s = time.perf_counter()
            answers = await _send(client, requests, num_at_once)
            return time.perf_counter() - start_s, answers

    wall_s, answers = asyncio.run(run())
    for request, answer in zip(requests, answers, strict=True):
        usage = answer.usage
        if (usage.prompt_tokens, usage.completion_tokens) != (num_prompt, request.num_output):
            raise RuntimeError(f"{usage} instead of {num_prompt} tokens in, {request.num_output} out")
    return ImageRun(
        wall_s,
        first_ms=[each.first_ms for each in answers],
        prefill_ms=[each.timings.prefill_ms for each in answers],
        num_cached=sum(each.usage.cached_tokens for each in answers),
    )


async def _send(
    client: tandem.AsyncClient, requests: Sequence[ImageRequest], num_at_once: int
) -> list[_Answer]:
    places = asyncio.Semaphore(num_at_once)

    async def one(request: ImageRequest) -> _Answer:
        async with places:
            return await _read(client, request)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(request)) for request in requests]
    return [task.result() for task in tasks]


async def _read(client: tandem.AsyncClient, request: ImageRequest) -> _Answer:
    start_s = time.perf_counter()
    first_s, usage, timings = 0.0, tandem.Usage(), tandem.Timings()
    stream = client.stream(
        request.prompt,
        images=[tandem.image(request.file)],
        max_tokens=request.num_output,
        temperature=0.0,
        ignore_eos=True,
    )
    async for event in stream:
        if isinstance(event, tandem.Delta):
            first_s = first_s or time.perf_counter()
        elif isinstance(event, tandem.Finished):
            usage, timings = event.usage, event.timings
    return _Answer((first_s - start_s) * 1e3, usage, timings)
