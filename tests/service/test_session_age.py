"""An engine that ends old connections: the tokenizer service connects again and loses nothing unshown."""

import asyncio
import contextlib

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

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


@contextlib.asynccontextmanager
async def _watched_health(address):
    """All that the service says of its health inside the context."""
    heard = set()

    async def watch(channel):
        async for response in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()):
            heard.add(response.status)

    async with grpc.aio.insecure_channel(address) as channel:
        watching = asyncio.create_task(watch(channel))
        yield heard
        watching.cancel()


def test_what_had_emitted_nothing_survives_the_age_of_its_session():
    async def main(address):
        async with tandem.AsyncClient(address, retries=0) as client, _watched_health(address) as heard:
            return await asyncio.gather(*(_ask(client, number) for number in range(NUM_REQUESTS))), heard

    with (
        running_service("engine_service", *FLAGS, *AGE) as engine,
        running_service("tokenizer_service", f"--engine={engine.address}") as tokenizer,
    ):
        finished, heard = asyncio.run(main(tokenizer.address))
        num_sessions = tokenizer.log.read_text().count("connected, epoch")
    assert num_sessions >= 3
    assert heard == {health_pb2.HealthCheckResponse.SERVING}
    # A session's end hits the one sequence that runs.
    assert NUM_REQUESTS - sum(finished) <= num_sessions
