"""Deadlines of whole answers and of first tokens: kept in order, and kept by the scheduler."""

import random

import pytest

from engine_service.deadlines import Deadlines
from engine_service.sequence import FinishReason
from support.scheduler_bench import Bench


@pytest.mark.parametrize("seed", range(8))
def test_random_deadlines_pass_once_each_in_time_and_leave_nothing(seed):
    rng = random.Random(seed)
    deadlines, expected, now_s = Deadlines(), {}, 0.0
    for _ in range(2000):
        key = (0, rng.randrange(50))
        match rng.randrange(4):
            case 0 | 1:
                time_s = rng.choice([None, now_s + rng.randrange(20)])
                deadlines.set(key, time_s)
                expected[key] = time_s
            case 2:
                deadlines.drop(key)
                expected[key] = None
            case 3:
                now_s += rng.randrange(3)
                passed = {each for each, time_s in expected.items() if time_s is not None and time_s <= now_s}
                found = deadlines.take_passed(now_s)
                assert (set(found), len(found)) == (passed, len(passed))
                expected |= dict.fromkeys(passed)
        assert deadlines.next_s == min((each for each in expected.values() if each is not None), default=None)


def test_deadlines_of_what_ended_long_before_take_no_memory():
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.set((0, number), 600.0)
        deadlines.drop((0, number))
    assert len(deadlines._heap) < 100


def test_a_sequence_whose_deadline_passes_in_the_queue_never_prefills():
    bench = Bench(max_num_seqs=1)
    bench.add(1, max_tokens=50)
    bench.add(2, timeout_s=1.0)
    bench.add(3, first_token_timeout_s=1.0)
    bench.step()
    bench.now_s = 1.0
    bench.scheduler.cancel((0, 1))  # there is a place from now on
    bench.run()
    assert bench.finished == {2: FinishReason.DEADLINE, 3: FinishReason.DEADLINE}
    assert {chunk.sequence.key[1] for plan in bench.plans for chunk in plan.prefills} == {1}


@pytest.mark.parametrize("num_before", range(1, 5))
def test_a_deadline_that_passes_while_running_ends_within_two_steps_with_what_there_is(num_before):
    bench = Bench()
    bench.add(1, max_tokens=50, timeout_s=1.0)
    for _ in range(num_before):
        bench.step()
    seen = list(bench.tokens[1])
    bench.now_s = 1.0
    bench.step()
    bench.step()
    assert bench.finished == {1: FinishReason.DEADLINE}
    assert bench.tokens[1] == seen
    assert bench.pool.num_free == 64
    assert bench.scheduler.idle_s is None


def test_a_sequence_that_may_overrun_ends_only_for_want_of_its_first_token():
    bench = Bench(max_num_seqs=1)
    bench.add(1, max_tokens=9, timeout_s=1.0, may_overrun=True)
    bench.add(2, max_tokens=9, timeout_s=1.0, may_overrun=True)
    bench.add(3, timeout_s=1.0, first_token_timeout_s=2.0, may_overrun=True)
    bench.step()
    bench.now_s = 2.0
    bench.run()
    assert bench.finished == {1: FinishReason.LENGTH, 2: FinishReason.LENGTH, 3: FinishReason.DEADLINE}


def test_a_deadline_for_the_first_token_holds_during_the_prefill():
    bench = Bench(max_prefill_tokens=4)
    bench.add(1, length=20, first_token_timeout_s=1.0)
    bench.step()
    bench.now_s = 1.0
    bench.run()
    assert bench.finished == {1: FinishReason.DEADLINE}
    assert bench.tokens[1] == []
    assert bench.pool.num_free == 64


def test_a_deadline_for_the_first_token_is_over_once_that_is_there():
    bench = Bench()
    bench.add(1, max_tokens=9, first_token_timeout_s=1.0)
    bench.add(2, max_tokens=9, first_token_timeout_s=1.0, timeout_s=3.0)
    while not (bench.tokens[1] and bench.tokens[2]):
        bench.step()
    bench.now_s = 2.0
    bench.step()
    assert not bench.finished
    bench.now_s = 3.0
    bench.run()
    assert bench.finished == {1: FinishReason.LENGTH, 2: FinishReason.DEADLINE}


def test_a_preempted_sequence_that_has_its_first_token_needs_it_no_second_time():
    bench = Bench(num_blocks=7, prefix_caching=False)
    for number in (1, 2):
        bench.add(number, 8, 12, first_token_timeout_s=1.0)
    while not bench.scheduler.num_preemptions:
        bench.step()
    bench.now_s = 5.0
    bench.run()
    assert bench.finished == {1: FinishReason.LENGTH, 2: FinishReason.LENGTH}


def test_the_sooner_of_both_deadlines_counts_before_the_first_token():
    bench = Bench(max_num_seqs=1)
    bench.add(1, max_tokens=50)
    bench.add(2, timeout_s=1.0, first_token_timeout_s=9.0)
    bench.step()
    bench.now_s = 1.0
    bench.step()
    assert bench.finished == {2: FinishReason.DEADLINE}
