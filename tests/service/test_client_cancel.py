"""Cancelling and timing out, seen by a scripted service."""

import asyncio
import functools
import math
import socket
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import pytest

import tandem
from support.both_clients import both_ways, outcome_of
from support.scripted_inference import ScriptedInference, Served, running
from tandem_service import errors

CALL_TIMEOUT_S = 30.0


@pytest.fixture
def served() -> Iterator[Served]:
    servicer = ScriptedInference()
    with running(servicer) as target:
        yield servicer, target


def test_the_timeout_ends_a_call_and_its_work(served: Served) -> None:
    servicer, target = served
    with tandem.Client(target) as each, pytest.raises(tandem.DeadlineExceededError):
        each.generate("hang", timeout=0.3)
    assert servicer.cancelled.wait(CALL_TIMEOUT_S)
    with tandem.Client(target, generate_timeout=0.3) as each, pytest.raises(tandem.DeadlineExceededError):
        each.generate("hang")
    for error in both_ways("generate", target, "hang", timeout=0.3):
        assert type(error) is tandem.DeadlineExceededError


@pytest.mark.parametrize(
    ("call", "options", "limit_s"),
    [
        ("generate", {}, 600.0),
        ("generate", {"timeout": 20.0}, 20.0),
        ("generate", {"timeout": None}, None),
        ("generate", {"timeout": math.inf}, None),
        ("generate", {"timeout": 1e12}, None),
        ("tokenize", {}, 60.0),
        ("tokenize", {"timeout": 20.0}, 20.0),
        ("tokenize", {"timeout": None}, None),
        ("tokenize", {"timeout": math.inf}, None),
        ("tokenize", {"timeout": 1e12}, None),
    ],
)
def test_the_timeout_is_the_deadline(
    served: Served, call: str, options: dict[str, float | None], limit_s: float | None
) -> None:
    servicer, target = served
    outcomes = both_ways(call, target, "one", **options)
    assert not any(isinstance(each, tandem.TandemError) for each in outcomes)
    if limit_s is None:
        assert servicer.time_left_s is None
    else:
        assert servicer.time_left_s is not None
        # gRPC rounds a deadline up to the next of its units.
        assert limit_s / 2 < servicer.time_left_s < limit_s * 1.1


@pytest.mark.parametrize("timeout", [math.inf, 1e12])
def test_many_have_the_time_that_they_were_given(served: Served, timeout: float) -> None:
    servicer, target = served
    for outcome in both_many(target, timeout):
        assert [result.unwrap().text for result in outcome] == ["one ."]
        assert servicer.time_left_s is None


@pytest.mark.parametrize("timeout", [0, -1.5, -math.inf])
def test_no_time_left_is_a_deadline_exceeded(served: Served, timeout: float) -> None:
    _, target = served
    outcomes = [
        *both_ways("generate", target, "one", timeout=timeout),
        *both_ways("tokenize", target, "one", timeout=timeout),
        *both_many(target, timeout),
    ]
    assert [type(each) for each in outcomes] == [tandem.DeadlineExceededError] * 6


def test_a_timeout_that_is_no_number_is_named(served: Served) -> None:
    for call in ("generate", "tokenize"):
        with tandem.Client(served[1]) as each, pytest.raises(ValueError, match="timeout=nan"):
            getattr(each, call)("one", timeout=math.nan)
        with pytest.raises(ValueError, match="timeout=nan"):
            asyncio.run(getattr(tandem.AsyncClient(served[1]), call)("one", timeout=math.nan))
    with pytest.raises(ValueError, match="timeout=nan"):
        sync_many(served[1], math.nan)
    with pytest.raises(ValueError, match="timeout=nan"):
        async_many(served[1], math.nan)


def both_many(target: str, timeout: float) -> list[Any]:
    """The results of one request, or the error of the stream, from the sync and from the async client."""
    return [outcome_of(functools.partial(each, target, timeout)) for each in (sync_many, async_many)]


def sync_many(target: str, timeout: float) -> list[tandem.Result]:
    with tandem.Client(target) as each:
        return list(each.generate_many(["one"], timeout=timeout))


def async_many(target: str, timeout: float) -> list[tandem.Result]:
    async def run() -> list[tandem.Result]:
        async with tandem.AsyncClient(target) as each:
            return [result async for result in each.generate_many(["one"], timeout=timeout)]

    return asyncio.run(run())


# Each function returns what it left, so that it is not the garbage collector that cancels.


def leave_loop(each: tandem.Client) -> Any:
    stream = each.stream("hang")
    for event in stream:
        if isinstance(event, tandem.Delta):
            break
    return stream


def leave_context(each: tandem.Client) -> Any:
    with each.stream("hang") as stream:
        events = iter(stream)
        assert isinstance(next(events), tandem.Started)
    return stream, events


def leave_texts(each: tandem.Client) -> Any:
    stream = each.stream("hang")
    for _ in stream.texts():
        break
    return stream


def leave_by_exception(each: tandem.Client) -> Any:
    stream = each.stream("hang")

    def fail() -> None:
        for event in stream:
            if isinstance(event, tandem.Delta):
                raise KeyError

    with pytest.raises(KeyError):
        fail()
    return stream


def leave_many(each: tandem.Client) -> Any:
    results = each.generate_many(["one", "hang"])
    for _ in results:
        break
    return results


@pytest.mark.parametrize(
    "leave",
    [leave_loop, leave_context, leave_texts, leave_by_exception, leave_many],
    ids=lambda function: function.__name__,
)
def test_leaving_cancels_on_the_server(served: Served, leave: Callable[[tandem.Client], Any]) -> None:
    servicer, target = served
    with tandem.Client(target) as each:
        left = leave(each)
        assert servicer.cancelled.wait(CALL_TIMEOUT_S)
        del left


async def async_leave_loop(each: tandem.AsyncClient) -> Any:
    stream = each.stream("hang")
    async for event in stream:
        if isinstance(event, tandem.Delta):
            break
    return stream


async def async_leave_context(each: tandem.AsyncClient) -> Any:
    async with each.stream("hang") as stream:
        events = aiter(stream)
        assert isinstance(await anext(events), tandem.Started)
    return stream, events


async def async_leave_texts(each: tandem.AsyncClient) -> Any:
    stream = each.stream("hang")
    async for _ in stream.texts():
        break
    return stream


async def async_cancel_task(each: tandem.AsyncClient) -> Any:
    stream = each.stream("hang")
    started = asyncio.Event()

    async def read() -> None:
        async for _ in stream:
            started.set()

    task = asyncio.create_task(read())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return stream


async def async_leave_many(each: tandem.AsyncClient) -> Any:
    results = each.generate_many(["one", "hang"])
    async for _ in results:
        break
    return results


@pytest.mark.parametrize(
    "leave",
    [async_leave_loop, async_leave_context, async_leave_texts, async_cancel_task, async_leave_many],
    ids=lambda function: function.__name__,
)
def test_leaving_cancels_on_the_server_async(served: Served, leave: Callable[[Any], Any]) -> None:
    servicer, target = served

    async def run() -> bool:
        async with tandem.AsyncClient(target) as each:
            left = await leave(each)
            was_cancelled = await asyncio.to_thread(servicer.cancelled.wait, CALL_TIMEOUT_S)
            del left
            return was_cancelled

    assert asyncio.run(run())


def test_close_ends_a_stream_that_another_thread_reads(served: Served) -> None:
    _, target = served
    with tandem.Client(target) as each, futures.ThreadPoolExecutor(1) as pool:
        stream = each.stream("hang")
        reading = pool.submit(stream.completion)
        stream.close()
        assert type(reading.exception(CALL_TIMEOUT_S)) is tandem.RequestCancelledError


def test_close_ends_a_stream_that_another_task_reads(served: Served) -> None:
    async def run() -> BaseException | None:
        async with tandem.AsyncClient(served[1]) as each:
            stream = each.stream("hang")
            reading = asyncio.create_task(stream.completion())
            await asyncio.sleep(0)
            stream.close()
            await asyncio.wait([reading], timeout=CALL_TIMEOUT_S)
            return reading.exception()

    assert type(asyncio.run(run())) is tandem.RequestCancelledError


async def completion(each: tandem.AsyncClient) -> Any:
    return await each.generate("one")


async def many(each: tandem.AsyncClient) -> Any:
    return [result async for result in each.generate_many(["one", "two"])]


async def models(each: tandem.AsyncClient) -> Any:
    return await each.models()


CALLS = pytest.mark.parametrize("call", [completion, many, models], ids=lambda function: function.__name__)


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a peer that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@CALLS
def test_closing_the_client_ends_the_calls_of_other_tasks(silent: str, call: Callable[[Any], Any]) -> None:
    async def run() -> Any:
        each = tandem.AsyncClient(silent)
        calling = asyncio.create_task(call(each))
        await asyncio.sleep(0)
        await each.close()
        return await asyncio.gather(calling, return_exceptions=True)

    assert [type(error) for error in asyncio.run(run())] == [tandem.RequestCancelledError]


@pytest.mark.parametrize("call", [completion, models], ids=lambda function: function.__name__)
def test_closing_the_client_ends_a_call_between_its_attempts(
    served: Served, call: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    servicer, target = served
    servicer.failures = [errors.UnavailableError("gone")]
    each = tandem.AsyncClient(target)

    async def close_instead(delay_s: float) -> None:
        await each.close()

    async def run() -> None:
        monkeypatch.setattr(asyncio, "sleep", close_instead)
        with pytest.raises(tandem.RequestCancelledError):
            await call(each)

    asyncio.run(run())
    assert len(servicer.requests) == 1


def test_closing_the_client_ends_an_answer_that_has_begun(served: Served) -> None:
    async def run() -> None:
        each = tandem.AsyncClient(served[1])
        async for event in each.stream("hang"):
            if isinstance(event, tandem.Delta):
                closing = asyncio.create_task(each.close())
        await closing

    with pytest.raises(tandem.RequestCancelledError):
        asyncio.run(run())


@CALLS
def test_a_cancelled_task_is_cancelled(silent: str, call: Callable[[Any], Any]) -> None:
    async def run() -> Any:
        async with tandem.AsyncClient(silent) as each:
            calling = asyncio.create_task(call(each))
            await asyncio.sleep(0)
            calling.cancel()
            return await asyncio.gather(calling, return_exceptions=True)

    assert [type(error) for error in asyncio.run(run())] == [asyncio.CancelledError]
