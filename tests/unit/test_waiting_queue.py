"""The waiting queue: order, exact counts, images that come and give way."""

import random
from types import SimpleNamespace

import pytest

from engine_service.image_ref import ImageRef
from engine_service.image_store import ImageStore
from engine_service.sequence import Sequence, SequenceSpec, State
from engine_service.waiting_queue import WaitingQueue
from support.scheduler_bench import Bench

IMAGES = [bytes([number]) * 32 for number in range(4)]


def _sequence(number, length, priority=0, images=()):
    refs = tuple(ImageRef(sha256, place, 1) for place, sha256 in enumerate(images))
    spec = SequenceSpec(tuple(range(length)), 1, priority=priority, images=refs)
    return Sequence((0, number), spec, number, 0.0, ())


class Bystander:
    """A queue beside a plain list of who waits, with images that are there or not as the test likes."""

    def __init__(self):
        self.known = set()
        self.queue = WaitingQueue(SimpleNamespace(has=self.known.__contains__))
        self.waiting = []

    def add(self, sequence):
        self.queue.add(sequence)
        self.waiting.append(sequence)

    def remove(self, sequence):
        self.queue.remove(sequence)
        self.waiting.remove(sequence)
        sequence.state = State.FINISHED

    def can_begin(self):
        ready = [each for each in self.waiting if {i.sha256 for i in each.spec.images} <= self.known]
        return min(ready, key=lambda each: each.order, default=None)

    def check(self):
        assert self.queue.num_sequences == len(self.waiting)
        assert self.queue.num_tokens == sum(each.num_prompt for each in self.waiting)
        assert self.queue.num_lacking == sum(each.state is State.LACKING for each in self.waiting)


@pytest.mark.parametrize("seed", range(10))
def test_random_work_is_counted_exactly_and_begins_in_order(seed):
    rng = random.Random(seed)
    bystander = Bystander()
    for number in range(1500):
        match rng.randrange(6):
            case 0 | 1 | 2:
                images = rng.choice([(), (), rng.sample(IMAGES, 2)])
                bystander.add(_sequence(number, rng.randint(2, 9), rng.randint(-1, 1), images))
            case 3 if bystander.waiting:
                bystander.remove(rng.choice(bystander.waiting))
            case 4:
                sha256 = rng.choice(IMAGES)
                bystander.known.symmetric_difference_update({sha256})
                if sha256 in bystander.known:
                    bystander.queue.image_arrived(sha256)
            case _:
                first = bystander.queue.first()
                assert first is bystander.can_begin()
                if first is not None and rng.random() < 0.8:
                    bystander.queue.take_first()
                    bystander.waiting.remove(first)
                    first.state = State.PREFILLING
        bystander.check()


def test_those_that_left_from_the_middle_take_no_memory():
    bystander = Bystander()
    bystander.add(_sequence(0, 1, priority=1))
    for number in range(1, 10_000):
        bystander.add(_sequence(number, 1))
        bystander.remove(bystander.waiting[-1])
    assert len(bystander.queue._heap) < 100
    assert bystander.queue.first() is bystander.waiting[0]


@pytest.mark.parametrize("seed", range(6))
def test_the_load_is_exact_under_cancels_preemptions_deadlines_and_missing_images(seed):
    rng = random.Random(seed)
    images = ImageStore(2, 1, 10_000, 2 * 8)
    bench = Bench(num_blocks=24, max_num_seqs=4, images=images)
    for number in range(120):
        refs = (ImageRef(rng.choice(IMAGES), 1, 1),) if rng.random() < 0.4 else ()
        bench.add(
            number,
            length=rng.randint(2, 30),
            max_tokens=rng.randint(1, 30),
            priority=rng.randint(-1, 1),
            images=refs,
            timeout_s=rng.choice([None, 5.0, 50.0]),
            first_token_timeout_s=rng.choice([None, 20.0]),
        )
        for _ in range(rng.randrange(4)):
            bench.step()  # asserts the counts
            bench.now_s += rng.random()
        if rng.random() < 0.3:
            bench.scheduler.cancel((0, rng.randrange(number + 1)))
        if rng.random() < 0.3:
            bench.scheduler.put_image(rng.choice(IMAGES), b"8 pixels")
    assert bench.scheduler.num_preemptions > 0
    while bench.scheduler.has_work or bench.previous:
        for sha256 in IMAGES:
            bench.scheduler.put_image(sha256, b"8 pixels")
        bench.step()
    load = bench.scheduler.load
    assert (load.num_running, load.num_waiting, load.num_waiting_tokens) == (0, 0, 0)
    assert load.num_free_blocks == 24


def test_the_load_counts_waiting_prompt_tokens():
    bench = Bench(max_num_seqs=1)
    for number in (1, 2, 3):
        bench.add(number, length=10 * number)
    bench.step()
    load = bench.scheduler.load
    assert (load.num_running, load.num_waiting, load.num_waiting_tokens) == (1, 2, 50)
