"""The block pool: who holds what, what is known, what is reused first."""

import random

import pytest

from engine_service.block_pool import ROOT_DIGEST, BlockPool, block_digest


def test_a_taken_block_is_not_free_until_its_last_holder_releases_it():
    pool = BlockPool(3)
    blocks = pool.take(2)
    pool.hold(blocks[:1])
    pool.release(blocks)
    assert pool.num_free == 2
    pool.release(blocks[:1])
    assert pool.num_free == 3


def test_a_freed_block_is_found_by_its_content_until_it_is_taken():
    pool = BlockPool(2)
    blocks = pool.take(2)
    digest = block_digest(ROOT_DIGEST, [1, 2])
    pool.register(blocks[0], digest)
    pool.release(blocks)
    assert pool.find([digest]) == blocks[:1]
    pool.take(2)
    assert pool.find([digest]) == []


def test_unknown_blocks_are_reused_before_known_ones_and_late_blocks_before_early_ones():
    pool = BlockPool(3)
    blocks = pool.take(3)
    for index in (0, 1):
        pool.register(blocks[index], bytes([index]))
    pool.release(blocks)
    assert [pool.take(1)[0] for _ in range(3)] == [blocks[2], blocks[1], blocks[0]]


def test_finding_stops_at_the_first_unknown_block():
    pool = BlockPool(3)
    blocks = pool.take(3)
    for index in (0, 2):
        pool.register(blocks[index], bytes([index]))
    assert pool.find([b"\0", b"\1", b"\2"]) == blocks[:1]


def test_a_second_block_with_known_content_stays_unknown():
    pool = BlockPool(2)
    first, second = pool.take(2)
    pool.register(first, b"x")
    pool.register(second, b"x")
    assert pool.find([b"x"]) == [first]
    pool.forget([second])
    assert pool.find([b"x"]) == [first]


def test_a_digest_depends_on_every_token_before_it():
    same = block_digest(block_digest(ROOT_DIGEST, [1]), [2])
    assert block_digest(block_digest(ROOT_DIGEST, [1]), [2]) == same
    assert block_digest(block_digest(ROOT_DIGEST, [3]), [2]) != same
    assert block_digest(ROOT_DIGEST, [2]) != same


@pytest.mark.parametrize("seed", range(5))
def test_random_use_keeps_every_block_free_or_held_and_never_both(seed):
    rng = random.Random(seed)
    pool = BlockPool(24)
    held: list[list[int]] = []
    for _ in range(2000):
        match rng.randrange(4):
            case 0 if pool.num_free:
                held.append(pool.take(rng.randint(1, pool.num_free)))
            case 1 if held:
                pool.release(held.pop(rng.randrange(len(held))))
            case 2 if pool.num_free:
                held.append(pool.take(1))
                pool.register(held[-1][0], bytes([rng.randrange(40)]))
            case 3:
                found = pool.find([bytes([rng.randrange(40)])])
                pool.hold(found)
                held.append(found)
        pool.check(held)
    for blocks in held:
        pool.release(blocks)
    assert pool.num_free == 24
