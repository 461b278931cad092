"""The engine through the lives of its cores, which tests play."""

import asyncio
import contextlib
from unittest import mock

import pytest

from engine_service import engine as engine_module
from engine_service.config import EngineConfig
from engine_service.core_messages import End, Shutdown, StartFailed, Submit
from engine_service.engine import Engine
from engine_service.sequence import SequenceSpec
from support.stub_core import INFO, StubCore
from tandem_service.errors import UnavailableError

SPEC = SequenceSpec((5, 6), 3)
TIMEOUT_S = 20


class Bench:
    """An engine whose cores are in `cores`, the newest last.

    Attributes:
        refusals: What the next starts of a core raise.
    """

    def __init__(self, **flags):
        self.cores, self.refusals = [], []
        self.engine = Engine(EngineConfig(**flags))

    def start_core(self, _config):
        if self.refusals:
            raise self.refusals.pop()
        self.cores.append(StubCore())
        return self.cores[-1].started

    @contextlib.asynccontextmanager
    async def running(self):
        with (
            mock.patch.object(engine_module, "start_core", self.start_core),
            mock.patch.object(engine_module, "RESTART_DELAYS_S", (0.0,)),
        ):
            task = asyncio.create_task(self.engine.run())
            async with asyncio.timeout(TIMEOUT_S):
                yield task
            task.cancel()
            for core in self.cores:
                core.kill()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until(self, condition):
        while not condition():  # noqa: ASYNC110  (nothing tells)
            await asyncio.sleep(0.01)

    async def core(self, number):
        await self.until(lambda: len(self.cores) > number)
        return self.cores[number]

    async def ready(self, number=0):
        core = await self.core(number)
        core.pipe.send(INFO)
        await self.until(lambda: self.engine.info is not None)
        return core

    @property
    def deaths(self):
        registry = self.engine.observer.metrics.registry
        return registry.get_sample_value("tandem_engine_core_deaths_total")


def test_a_core_without_a_pipe_is_lost_at_once_however_long_its_process_takes():
    async def main():
        bench = Bench()
        async with bench.running():
            core = await bench.ready()
            with bench.engine.session() as session:
                bench.engine.submit(session, 1, SPEC)
                core.leave_pipe()
                frames = await session.take_frames()
            assert core.is_alive()
            with pytest.raises(UnavailableError):
                bench.engine.ready_info()
            assert len(bench.cores) == 1
            core.kill()
            await bench.ready(1)
            return frames.error, bench.deaths

    error, deaths = asyncio.run(main())
    assert isinstance(error, UnavailableError)
    assert deaths == 1


def test_a_silent_core_is_one_death():
    async def main():
        bench = Bench(heartbeat_timeout_s=1.0)
        async with bench.running():
            await bench.ready()
            await bench.ready(1)
            return bench.deaths

    assert asyncio.run(main()) == 1


def test_a_core_that_cannot_be_started_is_tried_again():
    async def main():
        bench = Bench()
        async with bench.running():
            core = await bench.ready()
            bench.refusals = [OSError("no memory")] * 3
            core.kill()
            await bench.ready(1)
            return bench.refusals

    assert asyncio.run(main()) == []


def test_the_first_core_that_cannot_load_ends_the_engine():
    async def main():
        bench = Bench()
        async with bench.running() as task:
            core = await bench.core(0)
            core.pipe.send(StartFailed("no such model"))
            core.kill()
            await task
            return bench.engine.start_failure

    assert asyncio.run(main()) == "no such model"


def test_a_later_core_that_cannot_load_is_tried_again():
    async def main():
        bench = Bench()
        async with bench.running():
            (await bench.ready()).kill()
            core = await bench.core(1)
            core.pipe.send(StartFailed("the volume is away"))
            core.kill()
            await bench.ready(2)
            return bench.engine.start_failure

    assert asyncio.run(main()) is None


def test_the_end_of_the_engine_is_no_death_of_its_core():
    async def main():
        bench = Bench()
        async with bench.running() as task:
            core = await bench.ready()
            task.cancel()
            await bench.until(lambda: core.pipe.poll(0))
            assert core.pipe.recv() == [Shutdown()]
            core.kill()
            await asyncio.wait([task])
            return bench.deaths

    assert asyncio.run(main()) == 0


def test_a_drained_session_ends_with_the_sequence_that_its_client_ends():
    async def main():
        bench = Bench()
        async with bench.running():
            core = await bench.ready()
            with bench.engine.session() as session:
                bench.engine.submit(session, 1, SPEC)
                bench.engine.drain()
                await session.take_frames()
                assert not session.is_done
                bench.engine.end(session, 1)
                await session.take_frames()
                assert session.is_done
            await bench.until(lambda: core.pipe.poll(0))
            return core.pipe.recv()

    assert asyncio.run(main()) == [Submit((0, 1), SPEC), End((0, 1))]


def test_a_heartbeat_shorter_than_an_idle_cores_is_refused():
    with pytest.raises(ValueError, match=r"heartbeat_timeout_s=0.4: must be 0 or at least 1"):
        EngineConfig(heartbeat_timeout_s=0.4)
