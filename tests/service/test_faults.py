"""kill -9 of any process at random moments under load: what is promised of the survivors."""

import asyncio
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

import tandem
from support.cli_process import environment
from support.deployment import Deployment

# The full size is TANDEM_FAULT_ROUNDS=200.
NUM_ROUNDS = int(os.environ.get("TANDEM_FAULT_ROUNDS", "4"))
VICTIMS = ("core", "worker", "engine", "client")
HEALTH_S = 2.0
NUM_REQUESTS = 24
NUM_TOKENS = 40
ROUND_TIMEOUT_S = 90
# Eight run at once, so that requests wait and run whenever the blow falls.
FLAGS = ("--device=cpu", "--max-num-seqs=8", "--context-length=256")
CLIENT = """
import asyncio, sys, tandem

async def main():
    async with tandem.AsyncClient(sys.argv[1]) as client:
        async def one(number):
            async for event in client.stream(f"{number} bottles", max_tokens=200, ignore_eos=True):
                print("event", flush=True)
        await asyncio.gather(*(one(number) for number in range(8)))

asyncio.run(main())
"""


@dataclass
class Outcome:
    """What a client saw of one request."""

    tokens: list[int] = field(default_factory=list)
    num_events: int = 0
    error: tandem.UnavailableError | None = None


async def _ask(client, number):
    """Greedy and seeded requests in turn; only UNAVAILABLE is an outcome that may be."""
    outcome = Outcome()
    settings = {"seed": number} if number % 2 else {"temperature": 0}
    try:
        async with client.stream(
            f"Tale {number} of a fox and {number} hens",
            max_tokens=NUM_TOKENS,
            ignore_eos=True,
            return_token_ids=True,
            **settings,
        ) as stream:
            async for event in stream:
                outcome.num_events += 1
                if isinstance(event, tandem.Delta):
                    outcome.tokens += event.token_ids
    except tandem.UnavailableError as error:
        outcome.error = error
    return outcome


def _ask_all(client):
    return asyncio.gather(*(_ask(client, number) for number in range(NUM_REQUESTS)))


def _check(outcomes, expected, victim):
    for outcome, tokens in zip(outcomes, expected, strict=True):
        if outcome.error is None:
            assert outcome.tokens == tokens
        else:
            assert victim != "client"
            assert outcome.num_events > 0, f"lost, but had emitted nothing: {outcome.error}"
            assert outcome.tokens == tokens[: len(outcome.tokens)]
            # A worker that is killed takes its connections with it and says nothing more.
            assert victim == "worker" or outcome.error.retry_delay_s


async def _until_health_admits(deployment):
    """Seconds until health says that nothing is served."""
    start_s = time.monotonic()
    while await asyncio.to_thread(deployment.is_serving):
        assert time.monotonic() - start_s < HEALTH_S, "health lies"
        await asyncio.sleep(0.02)
    return time.monotonic() - start_s


async def _strike(deployment, victim, rng):
    await asyncio.sleep(rng.uniform(0, 1.5))
    if victim == "worker":
        deployment.kill_worker(rng)
    elif victim == "core":
        await asyncio.to_thread(deployment.kill_core)
        await _until_health_admits(deployment)
    elif victim == "engine":
        await asyncio.to_thread(deployment.kill_engine)
        await _until_health_admits(deployment)
        deployment.restart_engine()
    else:
        await _kill_client(deployment, rng)


async def _kill_client(deployment, rng):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, deployment.address, stdout=subprocess.PIPE, env=environment()
    )
    await process.stdout.readline()
    await asyncio.sleep(rng.uniform(0, 0.5))
    process.kill()
    await process.communicate()


async def _run_rounds(deployment, num_rounds, rng):
    """Gives how many requests finished and how many were lost, by victim."""
    async with tandem.AsyncClient(deployment.address, retries=100) as client:
        expected = [outcome.tokens for outcome in await _ask_all(client)]
        counts = {}
        for number in range(num_rounds):
            victim = VICTIMS[number % len(VICTIMS)]
            async with asyncio.timeout(ROUND_TIMEOUT_S):
                outcomes, _ = await asyncio.gather(_ask_all(client), _strike(deployment, victim, rng))
            _check(outcomes, expected, victim)
            await asyncio.to_thread(deployment.wait_until_serving)
            await asyncio.to_thread(deployment.wait_until_free)
            finished, lost = counts.get(victim, (0, 0))
            num_lost = sum(outcome.error is not None for outcome in outcomes)
            counts[victim] = (finished + len(outcomes) - num_lost, lost + num_lost)
        return counts


@pytest.mark.timeout(120 + NUM_ROUNDS * 60)
@pytest.mark.parametrize(
    ("flags", "num_rounds"),
    [
        pytest.param(("--fake", "--fake-rate=80"), NUM_ROUNDS, id="fake"),
        pytest.param((), max(1, NUM_ROUNDS // 8), id="demo-model"),
    ],
)
def test_kill_9_of_any_process_loses_only_what_had_been_shown(tmp_path, flags, num_rounds):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with Deployment(tmp_path, *FLAGS, *flags) as deployment:
        counts = asyncio.run(_run_rounds(deployment, num_rounds, random.Random(seed)))
    print(f"{num_rounds} rounds; requests finished and lost by victim: {counts}")
