"""The scheduler without a model: order, chunks, preemption, ends."""

import random

import pytest

from engine_service.sequence import FinishReason, SequenceSpec
from engine_service.sequence_blocks import SequenceBlocks
from support.scheduler_bench import Bench


def expected(length, max_tokens):
    return [9000 + length + place for place in range(max_tokens)]


@pytest.mark.parametrize("length", [1, 3, 4, 5, 15, 16, 17, 33], ids=lambda n: f"prompt{n}")
@pytest.mark.parametrize("max_tokens", [1, 2, 9], ids=lambda n: f"max{n}")
def test_every_token_is_delivered_once_and_all_blocks_return(length, max_tokens):
    bench = Bench()
    bench.add(1, length, max_tokens)
    bench.run()
    assert bench.tokens[1] == expected(length, max_tokens)
    assert bench.finished == {1: FinishReason.LENGTH}
    assert bench.pool.num_free == 64


def test_a_long_prompt_is_cut_into_chunks_while_others_decode():
    bench = Bench(max_prefill_tokens=8)
    bench.add(1, 4, 12)
    bench.step()
    bench.add(2, 20, 2)
    bench.run()
    chunks = [
        (c.start, c.length, c.is_last) for p in bench.plans for c in p.prefills if c.sequence.key[1] == 2
    ]
    assert chunks == [(0, 8, False), (8, 8, False), (16, 4, True)]
    assert all(len(plan.decodes) == 1 for plan in bench.plans[1:4])


def test_first_come_first_served_within_priority():
    bench = Bench(max_num_seqs=1)
    for number, priority in ((1, 0), (2, 0), (3, 5), (4, -1)):
        bench.add(number, priority=priority)
    bench.run()
    assert list(bench.finished) == [3, 1, 2, 4]


def test_the_last_in_order_gives_way_when_blocks_run_out_and_loses_nothing():
    bench = Bench(num_blocks=7, prefix_caching=False)
    bench.add(1, 8, 12)
    bench.add(2, 8, 12)
    bench.run()
    assert bench.scheduler.num_preemptions > 0
    assert bench.tokens == {1: expected(8, 12), 2: expected(8, 12)}
    assert list(bench.finished) == [1, 2]


def test_one_that_waits_for_blocks_is_looked_at_again_only_when_some_came_or_went(monkeypatch):
    bench = Bench(num_blocks=8, block_size=16)
    lookups = []
    find_prefix = SequenceBlocks.find_prefix

    def counted(blocks, sequence):
        lookups.append(sequence.key)
        return find_prefix(blocks, sequence)

    monkeypatch.setattr(SequenceBlocks, "find_prefix", counted)
    bench.add(1, 16, 65)
    bench.step()
    bench.add(2, 112, 2)
    bench.run()
    assert set(bench.finished) == {1, 2}
    # The first takes a block for every 16 of its 65 tokens.
    assert lookups.count((0, 2)) <= 7


def test_a_preempted_sequence_starts_only_once():
    bench = Bench(num_blocks=7, prefix_caching=False)
    bench.add(1, 8, 12)
    bench.add(2, 8, 12)
    bench.run()
    assert set(bench.started) == {1, 2}


def test_a_sequence_is_told_to_have_begun_once_and_before_its_first_token():
    bench = Bench(num_blocks=7, prefix_caching=False)
    bench.add(1, 8, 12)
    bench.add(2, 8, 12)
    bench.step()
    assert (bench.begun, bench.started) == ([(1, 0), (2, 0)], {})
    bench.run()
    assert bench.scheduler.num_preemptions > 0
    assert bench.begun == [(1, 0), (2, 0)]


def test_equal_prompt_beginnings_are_computed_once():
    bench = Bench()
    prompt = list(range(18))
    bench.add(1, tokens=prompt)
    bench.run()
    bench.add(2, tokens=prompt)
    bench.add(3, tokens=[*prompt[:9], 77, 78])
    bench.run()
    assert [bench.started[n].num_cached for n in (1, 2, 3)] == [0, 16, 8]


def test_sequences_of_one_step_share_blocks_too():
    bench = Bench(max_prefill_tokens=64)
    for number in (1, 2, 3):
        bench.add(number, tokens=range(18))
    bench.run()
    assert [bench.started[n].num_cached for n in (1, 2, 3)] == [0, 16, 16]


def test_answers_are_reused_as_the_beginning_of_the_next_prompt():
    bench = Bench()
    bench.add(1, tokens=range(8), max_tokens=9)
    bench.run()
    bench.add(2, tokens=[*range(8), *bench.tokens[1], 5])
    bench.run()
    assert bench.started[2].num_cached == 16


def test_without_prefix_caching_nothing_is_shared():
    bench = Bench(prefix_caching=False)
    for number in (1, 2):
        bench.add(number, tokens=range(18))
        bench.run()
    assert bench.started[2].num_cached == 0


def test_prompt_logprobs_need_every_place_so_nothing_is_taken_from_the_cache():
    bench = Bench()
    bench.add(1, tokens=range(18))
    bench.run()
    bench.add(2, tokens=range(18), prompt_logprobs=0)
    bench.run()
    assert bench.started[2].num_cached == 0


def test_a_preempted_prompt_that_is_cut_otherwise_the_next_time_has_each_logprob_once():
    bench = Bench(num_blocks=37)
    bench.add(1, 11, 30)
    bench.step()
    bench.add(3, 26, 12)
    bench.add(2, 100, 2, prompt_logprobs=0)
    bench.run()
    starts = [c.start for plan in bench.plans for c in plan.prefills if c.sequence.key[1] == 2]
    again = starts.index(0, 1)
    assert not set(starts[1:again]) <= set(starts[again:])
    assert bench.prompt_logprobs[2] == list(range(1, 100))


def test_a_cancelled_sequence_is_silent_and_frees_its_blocks_at_once():
    bench = Bench()
    bench.add(1, 8, 100)
    for _ in range(4):
        bench.step()
    seen = list(bench.tokens[1])
    bench.scheduler.cancel((0, 1))
    assert bench.pool.num_free == 64
    bench.run()
    assert (bench.tokens[1], bench.finished) == (seen, {})


def test_a_waiting_sequence_can_be_cancelled():
    bench = Bench(max_num_seqs=1)
    bench.add(1)
    bench.add(2)
    bench.step()
    bench.scheduler.cancel((0, 2))
    bench.run()
    assert list(bench.finished) == [1]
    assert bench.tokens[2] == []


def test_a_session_takes_all_its_sequences_along():
    bench = Bench()
    bench.add(1)
    bench.scheduler.add((7, 1), SequenceSpec((1, 2), 5))
    bench.step()
    bench.scheduler.cancel_session(0)
    assert list(bench.scheduler._sequences) == [(7, 1)]


def test_a_deadline_ends_waiting_and_running_sequences():
    bench = Bench(max_num_seqs=1)
    bench.add(1, max_tokens=50, timeout_s=2.0)
    bench.add(2, max_tokens=50, timeout_s=1.0)
    bench.step()
    bench.now_s = 1.5
    bench.step()
    assert bench.finished == {2: FinishReason.DEADLINE}
    bench.now_s = 2.5
    bench.run()
    assert bench.finished == {2: FinishReason.DEADLINE, 1: FinishReason.DEADLINE}
    assert bench.tokens[2] == []


def test_stop_tokens_end_a_sequence_but_not_before_min_tokens():
    bench = Bench(eos_ids=(9005,))
    bench.add(1, 4, 9)
    bench.add(2, 4, 9, ignore_eos=True)
    bench.add(3, 4, 9, stop_token_ids=frozenset({9006}))
    bench.add(4, 4, 9, min_tokens=2)
    bench.run()
    assert [len(bench.tokens[n]) for n in (1, 2, 3, 4)] == [2, 9, 2, 9]
    assert bench.finished == {
        1: FinishReason.EOS,
        2: FinishReason.LENGTH,
        3: FinishReason.EOS,
        4: FinishReason.LENGTH,
    }


def test_a_broken_step_fails_its_sequences_and_no_others():
    bench = Bench(max_num_seqs=2)
    for number in (1, 2, 3):
        bench.add(number, tokens=range(10))
    plan = bench.scheduler.schedule()
    bench.scheduler.fail(plan)
    bench.run()
    assert bench.finished == {1: FinishReason.ERROR, 2: FinishReason.ERROR, 3: FinishReason.LENGTH}
    assert bench.started[3].num_cached == 0, "a broken step's blocks must not be reused"


def test_timings_count_the_wait_and_the_prefill():
    bench = Bench()
    bench.add(1)
    bench.now_s = 0.25
    bench.step()
    bench.now_s = 0.75
    bench.step()
    started = bench.started[1]
    assert (started.queue_us, started.prefill_us) == (250_000, 500_000)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("block_size", [1, 4], ids=["block1", "block4"])
def test_random_work_with_cancels_and_little_memory_ends_with_every_token_and_block(seed, block_size):
    rng = random.Random(seed)
    bench = Bench(
        num_blocks=72 // block_size, block_size=block_size, max_prefill_tokens=rng.choice([1, 5, 16])
    )
    wanted, cancelled = {}, set()
    for number in range(60):
        length, max_tokens = rng.randint(1, 30), rng.randint(1, 30)
        prompt = rng.choice(([1] * length, list(range(number, number + length))))
        bench.add(number, tokens=prompt, max_tokens=max_tokens, priority=rng.randint(-1, 1))
        wanted[number] = expected(length, max_tokens)
        for _ in range(rng.randrange(4)):
            bench.step()
        if rng.random() < 0.25:
            victim = rng.choice([n for n in wanted if n not in bench.finished] or [number])
            cancelled.add(victim)
            bench.scheduler.cancel((0, victim))
    bench.run()
    assert bench.pool.num_free == 72 // block_size
    for number, tokens in wanted.items():
        if number in cancelled:
            assert bench.tokens[number] == tokens[: len(bench.tokens[number])]
        else:
            assert bench.tokens[number] == tokens
            assert bench.finished[number] is FinishReason.LENGTH
