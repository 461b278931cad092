"""Looking before sleeping: nothing is missed, no timer late, and the wait is as long as it was."""

import asyncio
from types import SimpleNamespace

import pytest

from tandem_service import busy_poll

BUSY_S = 0.010


class Source:
    """Has something at the poll of that number, if ever; each poll takes a millisecond of its clock."""

    def __init__(self, number=0):
        self.waits = []
        self._number = number

    def monotonic(self):
        return 0.001 * len(self.waits)

    def poll(self, timeout_s):
        self.waits.append(timeout_s)
        return len(self.waits) == self._number


def _polled(monkeypatch, source, timeout_s, busy_s):
    monkeypatch.setattr(busy_poll, "time", SimpleNamespace(monotonic=source.monotonic))
    return busy_poll.busy_poll(source.poll, timeout_s, busy_s)


@pytest.mark.parametrize("timeout_s", [None, 5.0])
def test_what_comes_within_the_busy_time_is_found_without_a_wait(monkeypatch, timeout_s):
    source = Source(number=4)
    assert _polled(monkeypatch, source, timeout_s, BUSY_S)
    assert source.waits == [0.0] * 4


@pytest.mark.parametrize(
    ("timeout_s", "num_polls", "rest_s"),
    [(None, 10, None), (0.5, 10, 0.49), (BUSY_S, 10, 0.0), (0.004, 4, 0.0), (0.0, 0, 0.0)],
    ids=["for-ever", "longer-than-busy", "as-long-as-busy", "shorter-than-busy", "not-at-all"],
)
def test_the_rest_of_the_timeout_is_waited_for(monkeypatch, timeout_s, num_polls, rest_s):
    source = Source()
    assert not _polled(monkeypatch, source, timeout_s, BUSY_S)
    *busy, wait = source.waits
    assert busy == [0.0] * num_polls
    assert wait == (None if rest_s is None else pytest.approx(rest_s, abs=1e-9))


@pytest.mark.parametrize("timeout_s", [None, 0.0, 0.5])
def test_without_busy_time_it_is_one_wait(monkeypatch, timeout_s):
    source = Source()
    assert not _polled(monkeypatch, source, timeout_s, 0.0)
    assert source.waits == [timeout_s]


def test_a_loop_that_would_be_busy_for_ever_heeds_timers_threads_and_its_own_callbacks():
    async def main():
        await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        return await asyncio.to_thread(lambda: 7)

    assert busy_poll.run(main(), busy_s=1e9) == 7
