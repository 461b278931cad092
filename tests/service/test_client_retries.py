"""What the clients do again, counted by a scripted service."""

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import tandem
from support.both_clients import both_ways, outcome_of, sync_call
from support.scripted_inference import ScriptedInference, Served, running
from tandem_service import errors


@pytest.fixture
def served() -> Iterator[Served]:
    servicer = ScriptedInference()
    with running(servicer) as target:
        yield servicer, target


RETRIED = [errors.UnavailableError("gone"), errors.OverloadedError("full", retry_delay_s=0.01)]


@pytest.mark.parametrize("failure", RETRIED, ids=["unavailable", "overloaded-with-delay"])
@pytest.mark.parametrize(
    ("call", "argument"),
    [("generate", "one"), ("chat", [tandem.Message("user", "x")]), ("tokenize", "one"), ("models", None)],
    ids=["generate", "chat", "tokenize", "models"],
)
def test_a_call_that_answered_nothing_is_retried(
    served: Served, call: str, argument: Any, failure: errors.ServiceError
) -> None:
    servicer, target = served
    args = [] if argument is None else [argument]
    for num_failures, expected in ((2, 3), (3, 3)):
        servicer.requests.clear()
        servicer.failures = [failure] * num_failures
        outcome = outcome_of(functools.partial(sync_call, target, call, *args))
        assert len(servicer.requests) == expected
        assert isinstance(outcome, tandem.TandemError) == (num_failures == 3)
    servicer.requests.clear()
    servicer.failures = [failure] * 2

    async def run() -> None:
        async with tandem.AsyncClient(target) as each:
            await getattr(each, call)(*args)

    asyncio.run(run())
    assert len(servicer.requests) == 3


def test_a_call_that_only_started_is_retried_and_starts_once(served: Served) -> None:
    servicer, target = served
    failure = errors.UnavailableError("gone")

    async def events() -> list[tandem.Event]:
        async with tandem.AsyncClient(target) as each:
            return [event async for event in each.stream("one two")]

    with tandem.Client(target) as each:
        undisturbed = list(each.stream("one two"))
        servicer.failures_after_start = [failure] * 2
        assert list(each.stream("one two")) == undisturbed
    servicer.failures_after_start = [failure] * 2
    assert asyncio.run(events()) == undisturbed
    assert len(servicer.requests) == 1 + 3 + 3
    servicer.failures_after_start = [failure] * 6
    for error in both_ways("generate", target, "one two"):
        assert type(error) is tandem.UnavailableError
    assert not servicer.failures_after_start


NOT_RETRIED = [
    errors.OverloadedError("too large"),
    errors.InternalError("broke"),
    errors.InvalidRequestError("bad"),
    errors.RequestCancelledError("enough"),
]


@pytest.mark.parametrize("failure", NOT_RETRIED, ids=lambda failure: type(failure).__name__)
def test_a_final_error_is_not_retried(served: Served, failure: errors.ServiceError) -> None:
    servicer, target = served
    servicer.failures = [failure] * 4
    outcomes = [*both_ways("generate", target, "one"), *both_ways("tokenize", target, "one")]
    assert all(isinstance(outcome, tandem.TandemError) for outcome in outcomes)
    assert len(servicer.requests) == 4


def test_a_call_that_answered_something_is_not_retried(served: Served) -> None:
    servicer, target = served
    for error in both_ways("generate", target, "break"):
        assert type(error) is tandem.UnavailableError
    assert len(servicer.requests) == 2


def test_retries_can_be_turned_off(served: Served) -> None:
    servicer, target = served
    servicer.failures = [errors.UnavailableError("gone")]
    with tandem.Client(target, retries=0) as each, pytest.raises(tandem.UnavailableError):
        each.generate("one")
    assert len(servicer.requests) == 1


def test_retries_stay_within_the_timeout(served: Served) -> None:
    servicer, target = served
    servicer.failures = [errors.OverloadedError("full", retry_delay_s=50.0)] * 2
    start_s = time.monotonic()
    for error in both_ways("generate", target, "one", timeout=40.0):
        assert type(error) is tandem.OverloadedError
    assert time.monotonic() - start_s < 40.0
    assert len(servicer.requests) == 2


def test_a_service_that_comes_back_is_found_within_the_retries(served: Served) -> None:
    with running(ScriptedInference()) as target:
        each = tandem.Client(target, retries=8)
        each.generate("one")
    back = contextlib.ExitStack()
    timer = threading.Timer(0.3, lambda: back.enter_context(running(ScriptedInference(), target)))
    timer.start()
    with each, back:
        assert each.generate("two").text == "two ."
    timer.join()
