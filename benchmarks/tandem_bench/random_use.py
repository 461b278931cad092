"""Short random requests of which some are cancelled, and probes whose answers must not change."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import tandem

NUM_RUNNING = 128
MAX_LENGTH = 64
CANCEL_SHARE = 0.3
NUM_PROBES = 4
# No whole block of the prompt is shared, so that the prefix cache, empty at first only, has no part in it.
PROBE_INPUT, PROBE_OUTPUT = 16, 48


@dataclass
class Counts:
    """What has happened so far."""

    num_done: int = 0
    num_cancelled: int = 0
    num_tokens: int = 0


async def use_at_random(
    client: tandem.AsyncClient, vocab_size: int, total: int, counts: Counts, on_done: Callable[[], None]
) -> None:
    """Runs `total` requests, many at a time; calls `on_done` after each.

    Raises:
        ExceptionGroup: A request failed.
    """
    numbers = iter(range(total))

    async def work() -> None:
        for number in numbers:
            await _one_request(client, number, vocab_size, counts)
            counts.num_done += 1
            on_done()

    async with asyncio.TaskGroup() as group:
        for _ in range(NUM_RUNNING):
            group.create_task(work())


async def probe(client: tandem.AsyncClient, vocab_size: int) -> list[tuple[int, ...]]:
    """The tokens of a few seeded requests, each alone in the engine."""
    source = random.Random("probe")
    found = []
    for seed in range(NUM_PROBES):
        completion = await client.generate(
            token_ids=source.choices(range(vocab_size), k=PROBE_INPUT),
            max_tokens=PROBE_OUTPUT,
            temperature=0.8 * (seed % 2),
            seed=seed,
            ignore_eos=True,
            return_token_ids=True,
        )
        found.append(completion.token_ids)
    return found


async def _one_request(client: tandem.AsyncClient, number: int, vocab_size: int, counts: Counts) -> None:
    source = random.Random(f"soak {number}")
    num_input, num_output = source.randint(1, MAX_LENGTH), source.randint(1, MAX_LENGTH)
    is_cancelled = source.random() < CANCEL_SHARE
    # Some are cancelled with their first event, others in the middle.
    num_wanted = source.randrange(num_output) if is_cancelled else num_output
    stream = client.stream(
        token_ids=source.choices(range(vocab_size), k=num_input),
        max_tokens=num_output,
        temperature=source.choice((0.0, 0.8)),
        top_p=source.choice((1.0, 0.95)),
        seed=number,
        ignore_eos=source.random() < 0.5,
    )
    num_tokens = 0
    async with stream:
        async for event in stream:
            num_tokens += event.num_tokens if isinstance(event, tandem.Delta) else 0
            if is_cancelled and num_tokens >= num_wanted:
                break
    counts.num_tokens += num_tokens
    counts.num_cancelled += is_cancelled
