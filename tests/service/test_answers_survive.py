"""Answers that go on when the engine's core is killed, with the demo model over real sockets."""

import asyncio
import os
import signal

import grpc
import pytest

import tandem
from support.processes import running_service
from tandem.engine.v1 import engine_pb2, engine_pb2_grpc

TIMEOUT_S = 90.0
# At most 3, which is how often a request is resubmitted.
NUM_KILLS = int(os.environ.get("TANDEM_CORE_KILLS", "1"))
PROMPT = "Once upon a time there was a fox"
COMMON = {
    "max_tokens": 150,
    "ignore_eos": True,
    "return_token_ids": True,
    "logprobs": 2,
    "timeout": TIMEOUT_S,
}
KINDS = {
    "greedy": {"temperature": 0},
    "seeded": {"temperature": 1.1, "seed": 7, "top_p": 0.95, "n": 2},
    "penalties": {
        "temperature": 0.9,
        "seed": 3,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.3,
        "frequency_penalty": 0.2,
    },
    "prompt-logprobs": {"temperature": 0, "prompt_logprobs": 1, "echo": True},
    "stop-string": {"temperature": 0.8, "seed": 11, "stop": ["zebra", " the end of"], "min_tokens": 100},
}


@pytest.fixture(scope="module")
def services():
    with (
        running_service("engine_service", "--max-num-seqs=16") as engine,
        running_service("tokenizer_service", f"--engine={engine.address}") as tokenizer,
    ):
        yield tokenizer, engine


@pytest.fixture(scope="module")
def whole(services):
    """Each kind's answer when nothing goes wrong."""

    async def run():
        async with tandem.AsyncClient(services[0].address) as client:
            calls = [client.generate(PROMPT, **COMMON, **kind) for kind in KINDS.values()]
            return dict(zip(KINDS, await asyncio.gather(*calls), strict=True))

    return asyncio.run(run())


def kill_core(engine):
    with grpc.insecure_channel(engine.address) as channel:
        stub = engine_pb2_grpc.EngineStub(channel)
        epoch = stub.GetEngineInfo(engine_pb2.GetEngineInfoRequest(), timeout=TIMEOUT_S).info.epoch
    os.kill(int(epoch.split("-")[0]), signal.SIGKILL)


async def read(client, has_tokens, settings):
    """The deltas of a request by answer, and how many events of each other kind came."""
    deltas, others = {}, []
    async for event in client.stream(PROMPT, **COMMON, **settings):
        if isinstance(event, tandem.Delta):
            deltas.setdefault(event.index, []).append(event)
            has_tokens.set()
        else:
            others.append(type(event))
    return deltas, others


def test_answers_equal_the_undisturbed_ones_when_the_core_is_killed(services, whole):
    tokenizer, engine = services

    async def run():
        async with tandem.AsyncClient(tokenizer.address, retries=0) as client:
            has_tokens = [asyncio.Event() for _ in KINDS]
            reading = [
                asyncio.create_task(read(client, event, kind))
                for event, kind in zip(has_tokens, KINDS.values(), strict=True)
            ]
            for _ in range(NUM_KILLS):
                for event in has_tokens:
                    event.clear()
                    await asyncio.wait_for(event.wait(), TIMEOUT_S)
                assert not any(each.done() for each in reading)
                await asyncio.to_thread(kill_core, engine)
            return dict(zip(KINDS, await asyncio.gather(*reading), strict=True))

    for name, (deltas, others) in asyncio.run(run()).items():
        answers = whole[name].answers
        assert others.count(tandem.Started) == others.count(tandem.Finished) == len(answers)
        for answer in answers:
            mine = deltas[answer.index]
            assert "".join(delta.text for delta in mine) == answer.text, name
            assert tuple(i for delta in mine for i in delta.token_ids) == answer.token_ids
            found = [entry.logprob for delta in mine for entry in delta.logprobs]
            assert found == pytest.approx([entry.logprob for entry in answer.logprobs], abs=1e-3)


def test_a_request_is_unavailable_when_the_engine_stays_away():
    with (
        running_service("engine_service", "--fake", "--fake-rate=50") as engine,
        running_service(
            "tokenizer_service", f"--engine={engine.address}", "--engine-timeout-s=0.5"
        ) as tokenizer,
        tandem.Client(tokenizer.address, retries=0) as client,
    ):
        stream = client.stream(PROMPT, max_tokens=500, request_id="mine", timeout=TIMEOUT_S)
        num_tokens, error = read_until_lost(stream, engine)
    assert (error.reason, bool(error.retry_delay_s)) == ("ENGINE_LOST", True)
    assert error.metadata == {"request_id": "mine", "num_tokens": str(num_tokens)}


def read_until_lost(stream, engine):
    """Kills the engine for good after some tokens; gives how many came, and the error."""
    num_tokens = 0
    try:
        for event in stream:
            num_tokens += event.num_tokens if isinstance(event, tandem.Delta) else 0
            if num_tokens >= 5:
                engine.process.kill()
    except tandem.UnavailableError as error:
        return num_tokens, error
    raise AssertionError("nothing was lost")
