"""Clients that go on with answers whose connection is cut, through a proxy that cuts it."""

import asyncio
import time

import grpc
import pytest

import tandem
from support.cutting_proxy import cutting_proxy
from support.processes import running_service
from tandem.engine.v1 import engine_pb2, engine_pb2_grpc

PROMPT = "Grüße 🙂 from the lazy dog 東京 "
SETTINGS = {"max_tokens": 120, "ignore_eos": True, "return_token_ids": True, "logprobs": 0, "timeout": 60}


@pytest.fixture(scope="module")
def engine():
    """It repeats the prompt, 100 tokens a second."""
    with running_service("engine_service", "--fake", "--fake-rate=100") as engine:
        yield engine


@pytest.fixture(scope="module")
def service(engine):
    with running_service("tokenizer_service", f"--engine={engine.address}") as tokenizer:
        yield tokenizer


@pytest.fixture
def proxy(service):
    with cutting_proxy(service.address) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def whole(service):
    with tandem.Client(service.address) as client:
        return client.generate(PROMPT, **SETTINGS)


class Cutter:
    """Cuts the connection a few times while events come in, at other tokens each time."""

    def __init__(self, proxy):
        self.events = []
        self._proxy = proxy
        self._left = [5, 31, 64]

    def take(self, event):
        self.events.append(event)
        num_tokens = sum(each.num_tokens for each in self.events if isinstance(each, tandem.Delta))
        if self._left and num_tokens >= self._left[0]:
            del self._left[0]
            self._proxy.cut()

    def answer(self, index=0):
        """Kinds of the events of one answer without repeats, its text, ids and log-probabilities."""
        events = [event for event in self.events if event.index == index]
        deltas = [event for event in events if isinstance(event, tandem.Delta)]
        ends = [type(event) for event in events if not isinstance(event, tandem.Delta)]
        assert ends == [tandem.Started, tandem.Finished]
        text = "".join(delta.text for delta in deltas)
        ids = [i for delta in deltas for i in delta.token_ids]
        return text, tuple(ids), tuple(entry for delta in deltas for entry in delta.logprobs)


def read_sync(proxy, **settings):
    cutter = Cutter(proxy)
    with tandem.Client(proxy.address) as client:
        for event in client.stream(PROMPT, **SETTINGS, **settings):
            cutter.take(event)
    return cutter


def read_async(proxy, **settings):
    cutter = Cutter(proxy)

    async def run():
        async with tandem.AsyncClient(proxy.address) as client:
            async for event in client.stream(PROMPT, **SETTINGS, **settings):
                cutter.take(event)

    asyncio.run(run())
    return cutter


CLIENTS = pytest.mark.parametrize("read", [read_sync, read_async], ids=["sync", "async"])


@CLIENTS
@pytest.mark.parametrize("n", [1, 3])
def test_a_cut_answer_goes_on_without_a_gap_or_a_repeat(proxy, whole, read, n):
    cutter = read(proxy, linger=30, n=n)
    # A cut hurts nobody who has all of the answer already.
    assert proxy.num_connections > 1
    expected = whole.answers[0]
    for index in range(n):
        assert cutter.answer(index) == (expected.text, expected.token_ids, expected.logprobs)


@CLIENTS
def test_without_linger_a_cut_answer_is_an_error(proxy, read):
    with pytest.raises(tandem.UnavailableError):
        read(proxy)


def test_a_completion_goes_on_too(proxy, whole):
    with tandem.Client(proxy.address) as client:
        stream = client.stream(PROMPT, linger=30, **SETTINGS)
        events = iter(stream)
        assert isinstance(next(events), tandem.Started)
        proxy.cut()
        rest = [event for event in events if isinstance(event, tandem.Delta)]
    assert "".join(delta.text for delta in rest) == whole.text


def test_a_service_that_has_forgotten_the_request_draws_it_again(proxy, whole):
    """Without lingering the cut ends the request, and the next call starts it anew behind what has come."""
    cutter = read_sync(proxy, linger=0)
    assert cutter.answer()[0] == whole.text


def test_a_left_request_runs_for_its_linger_and_then_leaves_nothing_in_the_engine(engine, service):
    with (
        tandem.Client(service.address) as client,
        grpc.insecure_channel(engine.address) as channel,
    ):
        stub = engine_pb2_grpc.EngineStub(channel)

        def load():
            return stub.GetLoad(engine_pb2.GetLoadRequest(), timeout=30).load

        with client.stream(PROMPT, linger=1.0, max_tokens=900, ignore_eos=True) as stream:
            next(stream.texts())
        assert load().num_running == 1
        deadline_s = time.monotonic() + 30
        while load().num_running and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert (load().num_running, load().num_free_blocks) == (0, load().num_blocks)
