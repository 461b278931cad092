"""Who is let in: the bounds of the queue, shares, retry delays, and deadlines that cannot be kept."""

import random

import pytest

from engine_service.admission import Admission
from engine_service.config import EngineConfig
from engine_service.known_prompts import KnownPrompts
from engine_service.plan import Rates
from engine_service.sequence import SequenceSpec
from support.scheduler_bench import Bench
from tandem_service.errors import DeadlineError, OverloadedError


def _admission(num_cache_tokens=0, **flags):
    return Admission(EngineConfig(**flags), num_cache_tokens)


def _enter(admission, numbers, length=10, begin=False, **fields):
    for number in numbers:
        admission.enter((0, number), SequenceSpec(tuple(range(number, number + length)), 4, **fields))
        if begin:
            admission.begin((0, number))
    admission.check()


def test_the_queue_holds_so_many_sequences_beside_those_that_run():
    admission = _admission(max_num_seqs=4, max_num_waiting=3)
    _enter(admission, range(7))
    with pytest.raises(OverloadedError, match="3 sequences wait, at most max_num_waiting=3"):
        _enter(admission, [7])
    for number in range(4):
        admission.begin((0, number))
    with pytest.raises(OverloadedError):
        _enter(admission, [7])
    admission.leave((0, 0))
    _enter(admission, [7])


def test_the_queue_holds_so_many_prompt_tokens_whoever_has_a_place():
    admission = _admission(max_waiting_tokens=100)
    _enter(admission, range(10))
    with pytest.raises(OverloadedError, match=r"100 prompt tokens wait; 10 more .* max_waiting_tokens=100"):
        _enter(admission, [10])
    admission.begin((0, 5))
    _enter(admission, [10])


def test_a_prompt_longer_than_the_bound_enters_an_empty_queue():
    admission = _admission(max_waiting_tokens=100)
    _enter(admission, [0], length=500)
    with pytest.raises(OverloadedError):
        _enter(admission, [1], length=1)
    admission.begin((0, 0))
    _enter(admission, [1], length=500)


def test_a_client_holds_its_share_of_the_queue_and_leaves_the_rest_to_others():
    admission = _admission(max_num_seqs=2, max_num_waiting=8, max_client_share=0.25)
    _enter(admission, range(4), client="a")
    message = "2 sequences of client 'a' wait, at most 2: max_client_share=0.25 of max_num_waiting=8"
    with pytest.raises(OverloadedError, match=message):
        _enter(admission, [4], client="a")
    for number in range(2):
        admission.begin((0, number))
    with pytest.raises(OverloadedError, match=message):
        _enter(admission, [4], client="a")
    _enter(admission, [4, 5], client="b")
    _enter(admission, [6, 7], client="")
    with pytest.raises(OverloadedError, match="client ''"):
        _enter(admission, [8])
    admission.begin((0, 2))
    _enter(admission, [8], client="a")


def test_a_client_holds_its_share_of_the_queues_tokens():
    admission = _admission(max_waiting_tokens=100, max_client_share=0.5)
    _enter(admission, range(5), client="a")
    with pytest.raises(OverloadedError, match=r"50 prompt tokens of client 'a' wait; 10 more .* 50: max_cl"):
        _enter(admission, [5], client="a")
    _enter(admission, [5], client="b")


def test_the_smallest_share_lets_one_wait():
    admission = _admission(max_num_seqs=1, max_num_waiting=3, max_client_share=0.01)
    _enter(admission, range(2), client="a")
    with pytest.raises(OverloadedError, match="at most 1:"):
        _enter(admission, [2], client="a")


def _retry_delay(num_waiting, begun_per_s):
    admission = _admission(max_num_seqs=1, max_num_waiting=num_waiting)
    admission.rates = Rates(begun_per_s=begun_per_s)
    _enter(admission, range(num_waiting + 1))
    admission.begin((0, 0))
    with pytest.raises(OverloadedError) as error:
        _enter(admission, [num_waiting + 1])
    return error.value.retry_delay_s


def test_the_retry_delay_is_the_time_in_which_half_of_the_queue_begins():
    assert _retry_delay(100, 10.0) == 5.0
    assert _retry_delay(200, 10.0) == 10.0


def test_the_retry_delay_is_bounded_and_sane_before_anything_was_measured():
    assert _retry_delay(10, None) == 1.0
    assert _retry_delay(10, 1e6) == 0.1
    assert _retry_delay(10, 1e-6) == 60.0


def test_what_cannot_start_in_time_is_refused_with_both_times():
    admission = _admission()
    admission.rates = Rates(prefill_tokens_per_s=100.0)
    _enter(admission, range(100))
    message = r"the first token is expected in 10.1 s, past the deadline in 2 s"
    with pytest.raises(DeadlineError, match=message):
        _enter(admission, [100], timeout_s=2.0)
    with pytest.raises(DeadlineError, match=message):
        _enter(admission, [100], timeout_s=2.0, may_overrun=True)
    with pytest.raises(DeadlineError, match=r"past the first_token_timeout in 2 s"):
        _enter(admission, [100], first_token_timeout_s=2.0, timeout_s=60.0)
    _enter(admission, [100], timeout_s=10.2)


def test_its_own_prompt_counts_for_a_deadline():
    admission = _admission()
    admission.rates = Rates(prefill_tokens_per_s=100.0)
    with pytest.raises(DeadlineError):
        _enter(admission, [0], length=1000, timeout_s=2.0)
    _enter(admission, [0], length=100, timeout_s=2.0)


def test_an_unknown_rate_refuses_nobody_and_blames_nobody_later():
    admission = _admission()
    _enter(admission, range(100), timeout_s=0.001)
    admission.rates = Rates(prefill_tokens_per_s=100.0)
    _enter(admission, [100], timeout_s=1.0)


def test_only_those_that_go_first_are_ahead():
    admission = _admission()
    admission.rates = Rates(prefill_tokens_per_s=100.0)
    _enter(admission, range(100))
    _enter(admission, [100], timeout_s=1.0, priority=1)
    with pytest.raises(DeadlineError):
        _enter(admission, [101], timeout_s=1.0, priority=0)
    for number in range(100):
        admission.begin((0, number))
    _enter(admission, [101], timeout_s=1.0, priority=0)


def _enter_about_one_document(admission):
    admission.rates = Rates(prefill_tokens_per_s=1000.0)
    for number in range(50):
        admission.enter((0, number), SequenceSpec((*range(1024), number), 4, timeout_s=2.0))


def test_a_shared_beginning_is_work_once():
    _enter_about_one_document(_admission(num_cache_tokens=100_000))
    with pytest.raises(DeadlineError):
        _enter_about_one_document(_admission(num_cache_tokens=100_000, prefix_caching=False))


def test_beginnings_are_known_as_long_as_the_cache_has_room():
    known = KnownPrompts(1024)
    prompts = [tuple(range(place, place + 600)) for place in (0, 10_000, 20_000)]
    for prompt in prompts[:2]:
        assert known.num_unknown(prompt) == 600
        known.add(prompt)
    assert [known.num_unknown(prompt) for prompt in prompts] == [88, 88, 600]
    known.add(prompts[0])
    known.add(prompts[2])
    assert [known.num_unknown(prompt) for prompt in prompts] == [88, 600, 88]
    assert known.num_unknown((*prompts[0][:512], 7, 7)) == 2
    assert known.num_unknown((7, *prompts[0][:512])) == 513


@pytest.mark.parametrize("seed", range(6))
def test_random_work_leaves_exact_books(seed):
    rng = random.Random(seed)
    admission = _admission(max_num_seqs=8, max_num_waiting=40, max_waiting_tokens=300, max_client_share=0.5)
    there = set()
    for number in range(2000):
        match rng.randrange(4):
            case 0 | 1:
                admission.rates = Rates(rng.choice([None, 50.0]), rng.choice([None, 3.0]))
                fields = {"client": rng.choice("ab"), "priority": rng.randint(-1, 1)}
                try:
                    _enter(admission, [number], rng.randint(1, 40), timeout_s=rng.random(), **fields)
                    there.add(number)
                except (DeadlineError, OverloadedError):
                    pass
            case 2:
                admission.begin((0, rng.randrange(number + 1)))
            case 3:
                gone = rng.choice([*there, number])
                there.discard(gone)
                admission.leave((0, gone))
        admission.check()
        assert admission._ledger.num_sequences == len(there)


class Machine(Bench):
    """A scheduler with admission before it, whose steps take the time of their work."""

    def __init__(self, rng, **options):
        super().__init__(num_blocks=40_000, block_size=4, prefix_caching=True, **options)
        self.admission = _admission(40_000 * 4, max_num_waiting=100_000, max_waiting_tokens=10**9)
        self.first_token_s = {}
        self._rng = rng

    def submit(self, number, spec):
        self.admission.enter((0, number), spec)
        self.tokens[number] = []
        self.scheduler.add((0, number), spec)

    def step(self):
        num_ended = len(self.finished)
        super().step()
        for number in list(self.finished)[num_ended:]:
            self.admission.leave((0, number))
        for key in self.scheduler.take_begun():
            self.admission.begin(key)
        self.admission.rates = self.scheduler.rates
        if self.previous is not None:
            num_tokens = sum(chunk.length for chunk in self.previous.prefills)
            self.now_s += (0.002 + num_tokens / 20_000) * self._rng.uniform(0.8, 1.5)
        for number in self.started.keys() - self.first_token_s.keys():
            self.first_token_s[number] = self.now_s


@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_refused_who_would_have_had_the_first_token_in_time(seed):
    """Whoever is refused runs without a deadline instead, and is late by the one that it had."""
    rng = random.Random(seed)
    machine = Machine(rng, max_num_seqs=32, max_prefill_tokens=256)
    documents = [tuple(rng.randrange(9000) for _ in range(1500)) for _ in range(3)]
    refused = {}
    for number in range(400):
        beginning = rng.choice([(), (), *documents])
        ids = (*beginning, *(rng.randrange(9000) for _ in range(rng.randint(1, 400))))
        limit_s, priority = rng.choice([0.5, 2.0, 5.0]), rng.randint(0, 1)
        try:
            machine.submit(number, SequenceSpec(ids, 3, priority=priority, first_token_timeout_s=limit_s))
        except DeadlineError:
            machine.submit(number, SequenceSpec(ids, 3, priority=priority))
            refused[number] = machine.now_s + limit_s
        for _ in range(rng.choice([0, 0, 0, 1, 2])):
            machine.step()
    machine.run()
    assert len(refused) >= 10
    assert all(machine.first_token_s[number] > time_s for number, time_s in refused.items())


def test_the_retry_delay_is_about_the_time_that_half_of_the_queue_takes():
    machine = Machine(random.Random(1), max_num_seqs=8, max_prefill_tokens=256)
    for number in range(208):
        machine.submit(number, SequenceSpec((number,) * 20, 40, ignore_eos=True))
    while len(machine.finished) < 50:
        machine.step()
    delay_s, then_s = machine.admission.retry_delay_s, machine.now_s
    num_waiting = machine.scheduler.load.num_waiting
    while machine.scheduler.load.num_waiting > num_waiting / 2:
        machine.step()
    assert delay_s == pytest.approx(machine.now_s - then_s, rel=0.5)
