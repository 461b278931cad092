"""What the command line says about an answer's speed."""

import time

import pytest

from tandem import Delta
from tandem.cli.speed import Stopwatch


def summary(monkeypatch: pytest.MonkeyPatch, *deltas: tuple[float, int]) -> str:
    """For deltas at times in seconds after the start, with numbers of tokens."""
    clock = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    stopwatch = Stopwatch()
    for after_s, num_tokens in deltas:
        clock = 100.0 + after_s
        stopwatch.add(Delta("r", 0, "x", num_tokens=num_tokens))
    return stopwatch.summary()


def test_the_rate_leaves_out_the_time_to_the_first_token(monkeypatch: pytest.MonkeyPatch) -> None:
    assert summary(monkeypatch, (0.5, 1), (1.0, 4), (2.5, 6)) == "11 tokens, 5.0 tokens/s, TTFT 500 ms"


def test_one_delta_has_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    assert summary(monkeypatch, (0.25, 3)) == "3 tokens, TTFT 250 ms"


def test_no_delta_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert summary(monkeypatch) == "no tokens"
