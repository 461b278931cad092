"""Limits as clients of the public service meet them, with both services and the fake engine."""

import asyncio
import contextlib
import os

import grpc
import pytest

import tandem
from support.processes import running_service
from support.queueing_engine import Session, is_idle, load_when, prompt_of, spec
from tandem.engine.v1 import engine_pb2 as pb, engine_pb2_grpc
from tandem.v1 import inference_pb2, inference_pb2_grpc

# 2000 in the full size.
NUM_SUBMISSIONS = int(os.environ.get("TANDEM_TEST_SUBMISSIONS", "300"))


@contextlib.contextmanager
def _services(*flags):
    """The address of the public service, and a stub of the engine behind it."""
    with (
        running_service("engine_service", "--fake", *flags) as engine,
        running_service("tokenizer_service", f"--engine={engine.address}") as tokenizer,
        grpc.insecure_channel(engine.address) as channel,
    ):
        yield tokenizer.address, engine_pb2_grpc.EngineStub(channel)


@pytest.fixture(scope="module")
def slow():
    """One place, 50 tokens a second each, and 3200 prompt tokens a second, which the engine knows."""
    with _services("--max-num-seqs=1", "--fake-rate=50", "--max-prefill-tokens=64") as both:
        list(both[1].Generate(pb.GenerateRequest(spec=spec(prompt_of(0, 900), 1)), timeout=30))
        yield both


@contextlib.contextmanager
def _occupied(stub, num_waiting=0):
    """The only place is taken; the first tokens of those that wait would take 0.28 seconds each."""
    session = Session(stub)
    session.submit({0: spec([11, 12], 900)})
    session.submit({number: spec(prompt_of(number, 900)) for number in range(1, num_waiting + 1)})
    load_when(stub, lambda load: load.num_running + load.num_waiting == num_waiting + 1)
    try:
        yield
    finally:
        session.cancel(range(num_waiting + 1))
        session.read_all()
        load_when(stub, is_idle)


def test_everything_over_the_bound_is_served_or_refused_with_a_retry_delay():
    flags = ("--fake-rate=50", "--max-num-seqs=16", "--max-num-waiting=50", "--max-waiting-tokens=1000")
    with _services(*flags) as (address, stub):

        async def one(client, number):
            try:
                answer = await client.generate(
                    token_ids=prompt_of(number, 8 + number % 30), max_tokens=20, ignore_eos=True
                )
            except tandem.OverloadedError as error:
                return error
            return answer.usage.completion_tokens

        async def run():
            async with tandem.AsyncClient(address, retries=0) as client:
                return await asyncio.gather(*(one(client, number) for number in range(NUM_SUBMISSIONS)))

        outcomes = asyncio.run(run())
        served = [each for each in outcomes if not isinstance(each, tandem.OverloadedError)]
        refused = [each for each in outcomes if isinstance(each, tandem.OverloadedError)]
        assert len(outcomes) == len(served) + len(refused) == NUM_SUBMISSIONS
        assert served == [20] * len(served)
        assert len(served) >= 16
        assert refused
        assert all(0.1 <= each.retry_delay_s <= 60 for each in refused)
        assert all(
            "max_num_waiting=50" in str(each) or "max_waiting_tokens=1000" in str(each) for each in refused
        )
        load_when(stub, is_idle)


def test_with_retries_everything_over_the_bound_is_served_in_the_end():
    with _services("--fake-rate=50", "--max-num-seqs=8", "--max-num-waiting=8") as (address, stub):

        async def run():
            async with tandem.AsyncClient(address, retries=30) as client:
                return await asyncio.gather(
                    *(client.generate(f"prompt {number}", max_tokens=5) for number in range(40))
                )

        assert len(asyncio.run(run())) == 40
        load_when(stub, is_idle)


@pytest.mark.parametrize(
    ("limits", "name"),
    [({"timeout": 1.0}, "deadline"), ({"first_token_timeout": 1.0}, "first_token_timeout")],
    ids=["deadline", "first-token"],
)
def test_what_cannot_start_in_time_is_refused_with_both_times(slow, limits, name):
    address, stub = slow
    said = rf"the first token is expected in \S+ s, past the {name} in \S+ s"
    with (
        _occupied(stub, 20),
        tandem.Client(address) as client,
        pytest.raises(tandem.DeadlineExceededError, match=said),
    ):
        client.generate("hello", **limits)


def test_a_request_with_a_name_is_refused_for_the_deadline_of_its_call(slow):
    address, stub = slow
    with _occupied(stub, 20), tandem.Client(address) as client:
        (result,) = client.generate_many([tandem.Request("hello")], timeout=1.0)
    assert isinstance(result.error, tandem.DeadlineExceededError)
    assert "past the deadline in" in str(result.error)


@pytest.mark.parametrize("linger_s", [0, 60], ids=["reader", "linger"])
def test_a_call_that_attaches_outlives_the_deadline_of_the_one_that_came_first(slow, linger_s):
    request = inference_pb2.GenerateRequest(
        prompt="hello", request_id="shared", stop={"max_tokens": 100, "ignore_eos": True}
    )
    request.resume.linger.seconds = linger_s
    with grpc.insecure_channel(slow[0]) as channel:
        stub = inference_pb2_grpc.InferenceStub(channel)
        # 100 tokens take 2 s.
        first = stub.Generate(request, timeout=1.0)
        assert next(first).HasField("started")
        second = stub.Generate(request, timeout=60.0)
        events = list(second)
        with pytest.raises(grpc.RpcError) as caught:
            list(first)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert events[-1].finished.usage.completion_tokens == 100


def test_a_first_token_timeout_that_passes_in_the_queue_fails_its_request_alone(slow):
    address, stub = slow
    with tandem.Client(address) as client:
        with _occupied(stub):
            requests = [
                tandem.Request(prompt="late", first_token_timeout=0.3),
                tandem.Request(prompt="patient", max_tokens=2, first_token_timeout=60.0),
            ]
            results = iter(client.generate_many(requests))
            late = next(results)
        patient = next(results)
    assert late.index == 0
    assert isinstance(late.error, tandem.DeadlineExceededError)
    assert patient.unwrap().usage.completion_tokens == 2
    load_when(stub, is_idle)


def test_a_first_token_in_time_lets_the_answer_take_as_long_as_it_needs(slow):
    with tandem.Client(slow[0]) as client:
        answer = client.generate("hello", max_tokens=100, ignore_eos=True, first_token_timeout=1.0)
    assert answer.usage.completion_tokens == 100


def test_a_deadline_during_the_answer_leaves_the_client_what_there_was(slow):
    address, stub = slow
    seen = []
    with tandem.Client(address) as client:
        events = client.stream(token_ids=[11, 12], max_tokens=900, ignore_eos=True, timeout=1.0)
        with pytest.raises(tandem.DeadlineExceededError):
            seen.extend(events)
    assert any(isinstance(event, tandem.Delta) for event in seen)
    load_when(stub, is_idle)
