"""Many requests on one stream."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import tandem
from support.scripted_inference import ScriptedInference, Served, running


@pytest.fixture
def served() -> Iterator[Served]:
    servicer = ScriptedInference()
    with running(servicer) as target:
        yield servicer, target


def many(target: str, requests: list[Any], **options: Any) -> list[list[tandem.Result]]:
    """Results of both clients, in the order in which they came."""
    with tandem.Client(target) as each:
        results = [list(each.generate_many(requests, **options))]

    async def run() -> list[tandem.Result]:
        async with tandem.AsyncClient(target) as each:
            return [result async for result in each.generate_many(requests, **options)]

    return [*results, asyncio.run(run())]


def test_many_results_come_as_they_end(served: Served) -> None:
    servicer, target = served
    servicer.num_held = 3
    for results in many(target, ["a", tandem.Request("b", n=2), tandem.Request("c", request_id="mine"), "d"]):
        assert [result.index for result in results] == [2, 1, 0, 3]
        assert [result.unwrap().text for result in results] == ["c .", "b .", "a .", "d ."]
        assert results[0].request_id == "mine"
        assert len(results[1].unwrap().answers) == 2


def test_a_failed_request_leaves_the_others_alone(served: Served) -> None:
    for results in many(served[1], ["a", tandem.Request("b", max_tokens=-1), "c"]):
        assert [result.error is None for result in results] == [True, False, True]
        with pytest.raises(tandem.InvalidRequestError, match="-1 is less than 1"):
            results[1].unwrap()


def test_many_of_none(served: Served) -> None:
    assert many(served[1], []) == [[], []]


def test_many_reads_requests_as_places_become_free(served: Served) -> None:
    num_pulled = 0

    def requests() -> Iterator[str]:
        nonlocal num_pulled
        for index in range(40):
            num_pulled += 1
            yield str(index)

    with tandem.Client(served[1]) as each:
        for num_seen, _ in enumerate(each.generate_many(requests(), max_running=3)):
            # The running ones, and one that waits for its place.
            assert num_pulled - num_seen <= 3 + 1
    assert num_pulled == 40


def test_many_takes_an_async_iterable(served: Served) -> None:
    num_pulled = 0

    async def requests() -> AsyncIterator[str]:
        nonlocal num_pulled
        for index in range(40):
            await asyncio.sleep(0)
            num_pulled += 1
            yield str(index)

    async def run() -> list[int]:
        indices: list[int] = []
        async with tandem.AsyncClient(served[1]) as each:
            async for result in each.generate_many(requests(), max_running=3):
                assert num_pulled - len(indices) <= 3 + 1
                indices.append(result.index)
        return indices

    assert sorted(asyncio.run(run())) == list(range(40))


def test_many_raises_what_its_requests_raise(served: Served) -> None:
    def requests() -> Iterator[str]:
        yield "a"
        raise KeyError("no more")

    with tandem.Client(served[1]) as each, pytest.raises(KeyError, match="no more"):
        list(each.generate_many(requests()))

    async def run() -> None:
        async with tandem.AsyncClient(served[1]) as each:
            async for _ in each.generate_many(requests()):
                pass

    with pytest.raises(KeyError, match="no more"):
        asyncio.run(run())


def test_many_refuses_an_id_twice(served: Served) -> None:
    servicer, target = served
    servicer.num_held = 2
    twice = [tandem.Request("a", request_id="x"), tandem.Request("b", request_id="x")]
    with tandem.Client(target) as each, pytest.raises(ValueError, match="request_id='x'"):
        list(each.generate_many(twice))


def test_a_broken_stream_of_many_raises_after_its_results(served: Served) -> None:
    with tandem.Client(served[1]) as each:
        results = iter(each.generate_many(["a", "break", "c"]))
        assert next(results).index == 0
        with pytest.raises(tandem.UnavailableError, match="the engine went away"):
            next(results)


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("break", tandem.UnavailableError),
        ("cut", tandem.InternalError),
        ("hang", tandem.DeadlineExceededError),
    ],
)
def test_a_broken_stream_of_many_raises(served: Served, prompt: str, error: type[tandem.TandemError]) -> None:
    with tandem.Client(served[1]) as each, pytest.raises(error):
        list(each.generate_many([prompt], timeout=1.0))

    async def run() -> None:
        async with tandem.AsyncClient(served[1]) as each:
            async for _ in each.generate_many([prompt], timeout=1.0):
                pass

    with pytest.raises(error):
        asyncio.run(run())
