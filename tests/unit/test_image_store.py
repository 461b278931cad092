"""The image store: what is there, what stays, what gives way first."""

import random

import pytest

from engine_service.image_ref import ImageRef, content_of
from engine_service.image_store import ImageStore
from engine_service.plan import FeatureRun

PIXELS = b"pixels"  # 6 bytes


def _image(name, start=0, length=4):
    return ImageRef(name, start, length)


def _store(num_slots=2, num_pixels=3):
    return ImageStore(num_slots, 4, 100, num_pixels * len(PIXELS))


def _compute(store, *names):
    """Runs the images through one step and leaves them unpinned."""
    images = [_image(name) for name in names]
    assert store.pin(images)
    for image in images:
        store.runs([image], 0, 4)
    store.unpin(images)
    return [each.sha256 for each in store.take_work()]


def test_an_image_is_computed_once_while_its_features_stay():
    store = _store()
    store.put(b"a", PIXELS)
    assert _compute(store, b"a") == [b"a"]
    assert _compute(store, b"a") == []
    assert store.num_computed == 1


def test_the_features_used_longest_ago_give_way_and_pixels_bring_them_back():
    store = _store()
    for name in (b"a", b"b", b"c"):
        store.put(name, PIXELS)
    assert _compute(store, b"a", b"b") == [b"a", b"b"]
    _compute(store, b"a")
    assert _compute(store, b"c") == [b"c"]
    assert _compute(store, b"a") == []
    assert _compute(store, b"b") == [b"b"]
    assert store.take_gone() == []


def test_pinned_features_never_give_way():
    store = _store()
    for name in (b"a", b"b", b"c"):
        store.put(name, PIXELS)
    assert store.pin([_image(b"a"), _image(b"b")])
    assert not store.pin([_image(b"c")])
    assert not store.pin([_image(b"a"), _image(b"c")])
    store.unpin([_image(b"a"), _image(b"b")])
    assert store.pin([_image(b"c")])
    store.check()


def test_a_step_keeps_the_features_that_it_reads_until_it_is_planned():
    store = _store(num_slots=1)
    for name in (b"a", b"b"):
        store.put(name, PIXELS)
    image = _image(b"a")
    store.pin([image])
    store.runs([image], 0, 4)
    store.unpin([image])
    assert not store.pin([_image(b"b")])
    store.take_work()
    assert store.pin([_image(b"b")])


def test_pixels_give_way_beyond_their_budget_but_not_while_held():
    store = _store()
    store.hold([_image(b"a")])
    for name in (b"a", b"b", b"c", b"d"):
        store.put(name, PIXELS)
    assert (store.has(b"a"), store.has(b"b"), store.take_gone()) == (True, False, [b"b"])
    store.release([_image(b"a")])
    store.put(b"e", PIXELS)
    assert store.take_gone() == [b"c"]


def test_an_image_is_gone_with_the_last_of_pixels_and_features():
    store = _store(num_slots=1, num_pixels=1)
    store.put(b"a", PIXELS)
    _compute(store, b"a")
    store.put(b"b", PIXELS)
    assert (store.has(b"a"), store.take_gone()) == (True, [])
    _compute(store, b"b")
    assert (store.has(b"a"), store.take_gone()) == (False, [b"a"])


def test_features_of_a_broken_step_are_computed_again():
    store = _store()
    store.put(b"a", PIXELS)
    image = _image(b"a")
    store.pin([image])
    store.runs([image], 0, 4)
    store.fail(store.take_work())
    store.check()
    store.runs([image], 0, 4)
    assert [each.sha256 for each in store.take_work()] == [b"a"]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        pytest.param(0, 5, [], id="before"),
        pytest.param(0, 6, [FeatureRun(5, 6, 100)], id="its-first-token"),
        pytest.param(6, 8, [FeatureRun(0, 2, 101)], id="inside"),
        pytest.param(8, 20, [FeatureRun(0, 1, 103)], id="its-last-token"),
        pytest.param(9, 20, [], id="behind"),
        pytest.param(0, 20, [FeatureRun(5, 9, 100)], id="all"),
    ],
)
def test_chunks_take_the_rows_of_their_part_of_an_image(start, end, expected):
    store = _store()
    store.put(b"a", PIXELS)
    image = _image(b"a", start=5)
    store.pin([image])
    assert list(store.runs([image], start, end)) == expected


def test_the_content_of_a_block_names_its_images_and_where_they_begin():
    images = [_image(b"a", 2), _image(b"b", 6)]
    assert content_of(images, 0, 2) == content_of(images, 10, 12) == b""
    contents = [content_of(images, start, start + 4) for start in (0, 2, 4)]
    contents += [content_of([_image(b"b", 2)], 0, 4), content_of([_image(b"a", 3)], 0, 4)]
    assert len(set(contents)) == len(contents)


@pytest.mark.parametrize("seed", range(5))
def test_random_use_loses_no_slot_and_keeps_within_the_budgets(seed):
    rng = random.Random(seed)
    store = _store(num_slots=4, num_pixels=5)
    names = [bytes([number]) for number in range(12)]
    held, pinned, known = [], [], set()
    for _ in range(3000):
        images = [_image(name) for name in rng.choices(names, k=rng.randint(1, 3))]
        match rng.randrange(6):
            case 0:
                store.put(images[0].sha256, PIXELS)
                known.add(images[0].sha256)
            case 1 if len(held) < 4:
                store.hold(images)
                held.append(images)
            case 2 if held:
                candidate = rng.choice(held)
                is_ready = candidate not in pinned and store.has_all(candidate)
                if is_ready and store.pin(candidate):
                    store.runs(candidate, 0, 4)
                    pinned.append(candidate)
            case 3 if pinned:
                store.unpin(pinned.pop(rng.randrange(len(pinned))))
            case 4 if held:
                candidate = held[rng.randrange(len(held))]
                if candidate not in pinned:
                    held.remove(candidate)
                    store.release(candidate)
            case 5:
                work = store.take_work()
                assert len({each.slot for each in work}) == len(work)
        store.check()
        known -= set(store.take_gone())
        # Whoever listens to what is gone knows what is there.
        assert known == {name for name in names if store.has(name)}
