"""A core that falls silent is killed, wherever it stopped; its silence is told first, then its end."""

import asyncio
import threading

import pytest

from engine_service import core_process
from engine_service.config import EngineConfig
from support import silent_cores

CORES = [silent_cores.silent, silent_cores.amid_a_record]


@pytest.mark.parametrize("main", CORES, ids=["between-records", "amid-a-record"])
def test_a_silent_core_is_killed(monkeypatch, main):
    monkeypatch.setattr(core_process.core_main, "main", main)
    told = []
    # A loop that is held up sees no time pass.
    alarm = threading.Timer(20, told.append, ["the loop was held up"])

    async def run():
        begun = asyncio.Event()

        def on_report(report):
            told.append(report)
            begun.set()
            core.watch(0.5)

        started = core_process.start_core(EngineConfig())
        core = core_process.CoreProcess(started, on_report, lambda: told.append("lost"))
        await core.open()
        await asyncio.wait_for(begun.wait(), 60)
        alarm.start()
        await asyncio.wait_for(core.wait(), 60)

    asyncio.run(run())
    alarm.cancel()
    assert told == ["report", "lost"]


def test_one_thread_at_a_time_waits_for_a_core_that_is_stopped(monkeypatch, caplog):
    monkeypatch.setattr(core_process.core_main, "main", silent_cores.obedient)
    joining, together = [], []

    async def run():
        begun = asyncio.Event()
        started = core_process.start_core(EngineConfig())
        join = started.process.join

        def slow_join(timeout=None):
            joining.append("join")
            together.append(len(joining))
            threading.Event().wait(0.3)
            join(timeout)
            joining.pop()

        monkeypatch.setattr(started.process, "join", slow_join)
        core = core_process.CoreProcess(started, lambda _report: begun.set(), lambda: None)
        await core.open()
        await asyncio.wait_for(begun.wait(), 60)
        await core.stop(30)

    asyncio.run(run())
    assert together == [1]
    assert "does not end" not in caplog.text
