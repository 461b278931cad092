"""What the step loop measures: prompt tokens a second, and sequences that leave the queue."""

import pytest

from engine_service.plan import Rates
from support.scheduler_bench import Bench


class TimedBench(Bench):
    """A step takes 10 ms, and 10 ms more for each of its prompt tokens."""

    def step(self):
        super().step()
        if self.previous is not None:
            self.now_s += 0.01 + 0.01 * sum(chunk.length for chunk in self.previous.prefills)


def test_nothing_is_known_before_anything_was_measured():
    bench = TimedBench()
    assert bench.scheduler.rates == Rates(None, None)
    bench.add(1, length=16)
    bench.run()
    assert bench.scheduler.rates == Rates(None, None)


def test_prefill_is_measured_in_full_steps():
    bench = TimedBench()
    for number in range(20):
        bench.add(number, length=16, max_tokens=1)
    bench.run()
    assert bench.scheduler.rates.prefill_tokens_per_s == pytest.approx(16 / 0.17)


def test_steps_with_few_prompt_tokens_say_nothing_of_the_rate():
    bench = TimedBench()
    for number in range(20):
        bench.add(number, length=4, max_tokens=1)
        bench.run()
    assert bench.scheduler.rates.prefill_tokens_per_s is None


def test_time_without_work_is_not_counted():
    bench = TimedBench()
    for number in range(20):
        bench.add(number, length=16, max_tokens=1)
        bench.run()
        bench.now_s += 1000.0
    assert bench.scheduler.rates.prefill_tokens_per_s == pytest.approx(16 / 0.17)


def test_a_step_that_takes_long_for_once_changes_little():
    bench = TimedBench()
    for number in range(20):
        bench.add(number, length=16, max_tokens=1)
    bench.step()
    bench.now_s += 30.0
    bench.run()
    assert bench.scheduler.rates.prefill_tokens_per_s == pytest.approx(16 / 0.17)


def test_broken_steps_are_not_measured():
    bench = TimedBench()
    for number in range(20):
        bench.add(number, length=16, max_tokens=1)
        bench.scheduler.fail(bench.scheduler.schedule())
    assert bench.scheduler.rates.prefill_tokens_per_s is None


def test_the_queue_is_measured_while_others_stay_in_it():
    bench = TimedBench(max_num_seqs=1)
    for number in range(40):
        bench.add(number, length=4, max_tokens=6)
    bench.run()
    # Each holds the only place for the 50 ms of its prompt, 5 steps of 10 ms, and one that is empty.
    assert bench.scheduler.rates.begun_per_s == pytest.approx(1 / 0.1, rel=0.2)


def test_a_longer_wait_lowers_the_rate_of_the_queue():
    bench = TimedBench(num_blocks=256, max_num_seqs=1)
    bench.add(0, length=4, max_tokens=1)
    bench.add(1, length=4, max_tokens=500)
    bench.add(2, length=4, max_tokens=1)
    rates = []
    while 1 not in bench.finished:
        bench.step()
        if (rate := bench.scheduler.rates.begun_per_s) is not None:
            rates.append(rate)
    assert rates[-1] < rates[3] < rates[0] * 2
    assert rates[-1] < 1.0
