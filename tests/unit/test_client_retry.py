"""When a failed call may be made again."""

import math

import pytest

import tandem
from tandem.retry import Deadline, RetryPolicy, limit_s

NEVER = Deadline(None)
UNAVAILABLE = tandem.UnavailableError("gone")


def test_delays_grow_up_to_their_bound() -> None:
    policy = RetryPolicy(retries=10, first_delay_s=1.0, max_delay_s=6.0)
    for attempt, bound in enumerate([1.0, 2.0, 4.0, 6.0, 6.0]):
        delays = [policy.delay_s(UNAVAILABLE, attempt, NEVER) for _ in range(50)]
        assert all(delay is not None and bound / 2 <= delay <= bound for delay in delays)
        assert len(set(delays)) > 1


@pytest.mark.parametrize(("retries", "attempt", "is_made"), [(0, 0, False), (2, 1, True), (2, 2, False)])
def test_the_last_attempt_is_the_last(retries: int, attempt: int, is_made: bool) -> None:
    delay = RetryPolicy(retries).delay_s(UNAVAILABLE, attempt, NEVER)
    assert (delay is not None) == is_made


def test_the_delay_that_the_service_asks_for_is_a_lower_bound() -> None:
    delay = RetryPolicy().delay_s(tandem.OverloadedError("full", retry_delay_s=3.0), 0, NEVER)
    assert delay is not None
    assert delay > 3.0


@pytest.mark.parametrize(
    "error",
    [
        tandem.OverloadedError("too large"),
        tandem.InternalError("broke"),
        tandem.DeadlineExceededError("late"),
    ],
    ids=["overloaded-without-delay", "internal", "deadline"],
)
def test_final_errors(error: tandem.TandemError) -> None:
    assert RetryPolicy().delay_s(error, 0, NEVER) is None


def test_no_retry_that_the_deadline_leaves_no_time_for() -> None:
    policy = RetryPolicy(first_delay_s=10.0, max_delay_s=10.0)
    assert policy.delay_s(UNAVAILABLE, 0, Deadline(1.0)) is None
    assert policy.delay_s(UNAVAILABLE, 0, Deadline(1000.0)) is not None


@pytest.mark.parametrize("timeout_s", [0.0, -0.5, -5.0])
def test_a_deadline_that_has_passed_has_passed_for_grpc_too(timeout_s: float) -> None:
    assert Deadline(timeout_s).remaining_s() == -1.0


def test_without_a_limit_nothing_is_counted() -> None:
    assert NEVER.remaining_s() is None


def test_negative_retries_are_refused() -> None:
    with pytest.raises(ValueError, match="retries=-1"):
        tandem.Client(retries=-1)
    with pytest.raises(ValueError, match="retries=-1"):
        tandem.AsyncClient(retries=-1)


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        (None, None),
        (math.inf, None),
        (10**400, 1e9),
        (1e12, 1e9),
        (1e9, 1e9),
        (20.5, 20.5),
        (0, -1.0),
        (-1.5, -1.0),
        (-math.inf, -1.0),
    ],
    ids=lambda value: str(value)[:9],
)
def test_limits_are_what_grpc_can_count(given: float | None, limit: float | None) -> None:
    assert limit_s("timeout", given) == limit


def test_a_timeout_that_is_no_number_is_named() -> None:
    for kind in (tandem.Client, tandem.AsyncClient):
        for name in ("timeout", "generate_timeout"):
            with pytest.raises(ValueError, match=rf"^{name}=nan: must be a number of seconds"):
                kind(**{name: math.nan})
