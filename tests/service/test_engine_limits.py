"""The engine's queue over real sockets: its bounds, shares, and deadlines; the engine is the fake one."""

import contextlib

import grpc
import pytest

from support.processes import running_service
from support.queueing_engine import Session, details, is_idle, load_when, prompt_of, spec
from tandem.engine.v1 import engine_pb2 as pb, engine_pb2_grpc
from tandem.v1 import error_pb2

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED
LENGTH, DEADLINE = 1, 6


@contextlib.contextmanager
def _stub(*flags):
    with (
        running_service("engine_service", "--fake", *flags) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        yield engine_pb2_grpc.EngineStub(channel)


@pytest.fixture(scope="module")
def narrow():
    """One place, and a queue of 10 sequences and 400 tokens of which a client may hold the half."""
    flags = ("--max-num-seqs=1", "--max-num-waiting=10", "--max-waiting-tokens=400")
    with _stub(*flags, "--max-client-share=0.5", "--fake-rate=50") as stub:
        yield stub


@pytest.fixture(scope="module")
def slow():
    """1280 prompt tokens a second, which the engine knows by the time that a test begins."""
    with _stub("--fake-rate=20", "--max-prefill-tokens=64", "--max-num-seqs=4") as stub:
        list(stub.Generate(pb.GenerateRequest(spec=spec(prompt_of(0, 900), 1)), timeout=30))
        yield stub


@contextlib.contextmanager
def _occupied(stub):
    """A session whose sequence 0 has the only place."""
    session = Session(stub)
    session.submit({0: spec([11, 12], 900, client="first")})
    load_when(stub, lambda load: load.num_running == 1)
    try:
        yield session
    finally:
        session.cancel(range(100))
        session.read_all()
        load_when(stub, is_idle)


def _retry_delay_s(status):
    (data,) = details(status, "RetryInfo")
    return error_pb2.RetryInfo.FromString(data).retry_delay.ToMilliseconds() / 1000


def _refusal(stub, each):
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(pb.GenerateRequest(spec=each), timeout=30))
    return error.value


def test_the_bound_on_waiting_tokens_is_published_and_held(narrow):
    assert narrow.GetEngineInfo(pb.GetEngineInfoRequest()).info.max_waiting_tokens == 400
    with _occupied(narrow) as session:
        session.submit({number: spec(prompt_of(number, 100), client=str(number)) for number in range(1, 6)})
        session.read_until(lambda session: session.rejected)
        status = session.rejected[5]
        assert status.code == EXHAUSTED.value[0]
        assert "400 prompt tokens wait; 100 more would be over max_waiting_tokens=400" in status.message
        assert 0.1 <= _retry_delay_s(status) <= 60
        load = load_when(narrow, lambda load: load.num_waiting == 4)
        assert load.num_waiting_tokens == 400
        session.cancel([1])
        load_when(narrow, lambda load: load.num_waiting_tokens == 300)
        session.submit({6: spec(prompt_of(6, 100), client="6")})
        assert load_when(narrow, lambda load: load.num_waiting == 4).num_waiting_tokens == 400


def test_a_client_is_held_to_its_share_while_others_still_enter(narrow):
    with _occupied(narrow) as session:
        session.submit({number: spec([11, number], client="greedy") for number in range(1, 8)})
        session.submit({number: spec([11, number], client="modest") for number in range(8, 11)})
        load_when(narrow, lambda load: load.num_waiting == 8)
        session.read_until(lambda session: len(session.rejected) == 2)
        assert sorted(session.rejected) == [6, 7]
        assert "client 'greedy' wait, at most 5: max_client_share=0.5" in session.rejected[6].message


def test_generate_is_refused_by_a_status(narrow):
    with _occupied(narrow) as session:
        session.submit({number: spec([11, number], client=str(number)) for number in range(1, 11)})
        load_when(narrow, lambda load: load.num_waiting == 10)
        error = _refusal(narrow, spec([11]))
        assert error.code() is EXHAUSTED
        assert "10 sequences wait, at most max_num_waiting=10" in error.details()


def test_what_waited_for_its_place_in_vain_never_prefills(narrow):
    with _occupied(narrow) as session:
        session.submit({1: spec([13], timeout_ms=200), 2: spec([14], first_token_timeout_ms=200)})
        session.read_until(lambda session: len(session.finished) == 2)
        assert session.finished == {1: DEADLINE, 2: DEADLINE}
        assert set(session.tokens) == {0}


def test_a_deadline_ends_a_running_sequence_behind_all_of_its_tokens(narrow):
    session = Session(narrow)
    session.submit({1: spec([11, 12], 900, timeout_ms=500)})
    session.read_all()
    assert session.finished == {1: DEADLINE}
    # 50 a second: about 25, and not what a second would bring.
    assert 1 <= len(session.tokens[1]) <= 40
    assert session.tokens[1] == ([11, 12] * 20)[: len(session.tokens[1])]
    load_when(narrow, is_idle)


def test_a_first_token_in_time_lets_the_answer_take_as_long_as_it_needs(narrow):
    session = Session(narrow)
    session.submit({1: spec([11, 12], 50, first_token_timeout_ms=500)})
    session.read_all()
    assert (session.finished, len(session.tokens[1])) == ({1: LENGTH}, 50)


def test_what_cannot_have_its_first_token_in_time_is_refused_at_once(slow):
    with _queued(slow) as session:
        session.submit(
            {
                20: spec(prompt_of(20, 100), timeout_ms=1000),
                21: spec(prompt_of(21, 100), first_token_timeout_ms=1000, timeout_ms=60_000),
            }
        )
        session.read_until(lambda session: len(session.rejected) == 2)
        assert {status.code for status in session.rejected.values()} == {EXCEEDED.value[0]}
        assert "past the deadline in 1 s" in session.rejected[20].message
        assert "past the first_token_timeout in 1 s" in session.rejected[21].message
        error = _refusal(slow, spec(prompt_of(22, 100), timeout_ms=1000))
        assert error.code() is EXCEEDED
        assert "the first token is expected in" in error.details()


def test_whoever_goes_first_or_has_time_is_let_in(slow):
    with _queued(slow) as session:
        session.submit(
            {
                20: spec(prompt_of(20, 10), timeout_ms=30_000),
                21: spec(prompt_of(21, 10), timeout_ms=2000, priority=1),
            }
        )
        load_when(slow, lambda load: load.num_running + load.num_waiting == 12)
        assert not session.rejected


@contextlib.contextmanager
def _queued(stub):
    """A session with about 7 seconds of prompts."""
    session = Session(stub)
    session.submit({number: spec(prompt_of(number, 900), 1) for number in range(1, 11)})
    load_when(stub, lambda load: load.num_running + load.num_waiting == 10)
    try:
        yield session
    finally:
        session.cancel(range(100))
        session.read_all()
        load_when(stub, is_idle)
