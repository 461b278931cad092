"""An engine that ends old connections: the tokenizer service connects again and loses nothing unshown."""

import asyncio

import tandem
from support.processes import running_service

# One sequence runs at a time, for 0.4 s; a session lives for 2 s and a bit.
FLAGS = ("--fake", "--fake-rate=20", "--max-num-seqs=1")
AGE = ("--max-connection-age-s=1", "--max-connection-age-grace-s=1")
NUM_REQUESTS = 12
NUM_TOKENS = 8


async def _ask(client, number):
    """How many tokens came, and whether the request ended as it should."""
    num_tokens = num_events = 0
    try:
        async with client.stream(f"{number} hens", max_tokens=NUM_TOKENS, ignore_eos=True) as stream:
            async for event in stream:
                num_events += 1
                num_tokens += event.num_tokens if isinstance(event, tandem.Delta) else 0
    except tandem.UnavailableError:
        assert num_events > 0, f"request {number} was lost, but had emitted nothing"
        return False
    assert num_tokens == NUM_TOKENS
    return True


def test_what_had_emitted_nothing_survives_the_age_of_its_session():
    async def main(address):
        async with tandem.AsyncClient(address, retries=0) as client:
            return await asyncio.gather(*(_ask(client, number) for number in range(NUM_REQUESTS)))

    with (
        running_service("engine_service", *FLAGS, *AGE) as engine,
        running_service("tokenizer_service", f"--engine={engine.address}") as tokenizer,
    ):
        finished = asyncio.run(main(tokenizer.address))
        num_sessions = tokenizer.log.read_text().count("connected, epoch")
    assert num_sessions >= 3
    # A session's end hits the one sequence that runs.
    assert NUM_REQUESTS - sum(finished) <= num_sessions
