"""The states of a service, and what becomes of its calls in each."""

import asyncio
import logging

import pytest

from tandem_service.errors import UnavailableError
from tandem_service.life import Life, State


class Bench:
    """A life whose states are kept, and calls that end when they are told to.

    Attributes:
        drains: In which state the drain callback came.
    """

    def __init__(self):
        self.states, self.drains = [], []
        self.life = Life(self._on_change)
        self.changed = asyncio.Event()
        self.may_finish = asyncio.Event()

    async def call(self):
        with self.life.call():
            await self.may_finish.wait()
        return "done"

    async def start_call(self):
        task = asyncio.create_task(self.call())
        await asyncio.sleep(0)
        return task

    def end(self, lame_duck_s=0.0, grace_s=5.0):
        drain = lambda: self.drains.append(self.life.state)  # noqa: E731
        return asyncio.create_task(self.life.end(lame_duck_s, grace_s, drain))

    async def until(self, state):
        async with asyncio.timeout(5):
            while self.life.state < state:
                self.changed.clear()
                await self.changed.wait()

    def _on_change(self, state):
        self.states.append(state)
        self.changed.set()


def test_an_idle_service_goes_through_every_state_and_logs_each(caplog):
    async def main():
        bench = Bench()
        await bench.end()
        return bench

    with caplog.at_level(logging.INFO, "tandem"):
        bench = asyncio.run(main())
    assert bench.states == [State.LAME_DUCK, State.DRAINING, State.STOPPED]
    assert bench.drains == [State.DRAINING]
    assert caplog.messages == [
        "SERVING -> LAME_DUCK with 0 running calls",
        "LAME_DUCK -> DRAINING with 0 running calls",
        "DRAINING -> STOPPED with 0 running calls",
    ]


def test_a_lame_duck_takes_calls_and_drains_after_its_time():
    async def main():
        bench = Bench()
        ending = bench.end(lame_duck_s=0.05)
        await bench.until(State.LAME_DUCK)
        call = await bench.start_call()
        await bench.until(State.DRAINING)
        assert not ending.done()
        bench.may_finish.set()
        await ending
        return await call

    assert asyncio.run(main()) == "done"


def test_a_draining_service_refuses_calls_and_finishes_those_that_run():
    async def main():
        bench = Bench()
        call = await bench.start_call()
        ending = bench.end()
        await bench.until(State.DRAINING)
        with pytest.raises(UnavailableError) as refused:
            await bench.call()
        assert not ending.done()
        bench.may_finish.set()
        await ending
        return refused.value, await call

    refusal, outcome = asyncio.run(main())
    assert refusal.retry_delay_s
    assert outcome == "done"


def test_what_runs_when_the_grace_time_is_over_ends_unavailable():
    async def main():
        bench = Bench()
        call = await bench.start_call()
        await bench.end(grace_s=0.05)
        with pytest.raises(UnavailableError, match="stopped before") as ended:
            await call
        return ended.value, call.cancelling(), bench.life.state

    error, cancelling, state = asyncio.run(main())
    assert error.retry_delay_s
    assert cancelling == 0
    assert state is State.STOPPED


def test_a_call_that_its_client_cancels_is_cancelled_also_while_draining():
    async def main():
        bench = Bench()
        call = await bench.start_call()
        ending = bench.end()
        await bench.until(State.DRAINING)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5):
            await ending

    asyncio.run(main())


def test_a_life_ends_once():
    async def main():
        bench = Bench()
        await bench.end()
        with pytest.raises(AssertionError, match="STOPPED is not followed by LAME_DUCK"):
            await bench.end()

    asyncio.run(main())
