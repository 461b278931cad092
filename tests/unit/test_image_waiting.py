"""Sequences whose images are missing wait beside the queue, and hold nobody up."""

import pytest
import torch

from engine_service.config import EngineConfig
from engine_service.core_messages import PutImage
from engine_service.engine import Engine
from engine_service.image_ref import ImageRef
from engine_service.sequence import FinishReason, SequenceSpec
from support.checkpoints import save
from support.local_core import LocalCore
from support.pictures import picture, prompt_of, put, random_llava, sha256
from tandem_service.errors import OverloadedError

A, B = picture(0), picture(1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    return save(random_llava(), tmp_path_factory.mktemp("waiting"))


@pytest.fixture
def core(checkpoint):
    return LocalCore(checkpoint, fake=True, fake_rate=0.0, max_num_seqs=2)


def _spec(parts, max_tokens=3, **fields):
    ids, images = prompt_of(parts)
    return SequenceSpec(ids, max_tokens, images=images, **fields)


def test_others_run_while_an_image_is_missing(core):
    core.submit(1, _spec([A, 5]))
    core.submit(2, _spec([6, 7]))
    while 2 not in core.finished:
        core.step()
    assert (core.needed_images, core.tokens[1]) == ([sha256(A)], [])
    assert core.scheduler.load.num_waiting == 1
    put(core, A)
    core.run()
    assert core.finished[1] is FinishReason.LENGTH


def test_every_missing_image_is_asked_for_once_and_all_must_come(core):
    core.submit(1, _spec([A, 5, B, A]))
    core.step()
    assert core.needed_images == [sha256(A), sha256(B)]
    put(core, A)
    core.step()
    assert core.scheduler.load.num_waiting == 1
    put(core, B)
    core.run()
    assert core.finished[1] is FinishReason.LENGTH
    assert len(core.needed_images) == 2


def test_whoever_waited_first_goes_first_when_the_image_comes(core):
    for number in (1, 2, 3):
        core.submit(number, _spec([A, number]))
    core.step()
    put(core, A)
    core.run()
    assert list(core.finished) == [1, 2, 3]


def test_a_sequence_that_waits_for_an_image_can_be_cancelled(core):
    core.submit(1, _spec([A, 5]))
    core.step()
    core.end(1)
    core.step()
    assert not core.is_busy
    assert core.scheduler.idle_s is None
    put(core, A)
    core.step()


def test_a_deadline_ends_the_wait_for_an_image_without_further_commands(core):
    core.submit(1, _spec([A, 5], timeout_s=0.05))
    core.run()
    assert core.finished == {1: FinishReason.DEADLINE}


def test_pixels_that_nobody_holds_are_asked_for_again_when_they_gave_way(checkpoint):
    core = LocalCore(checkpoint, fake=True, fake_rate=0.0, image_pixels_mib=0)
    put(core, A)
    core.submit(1, _spec([A, 5]))
    core.step()
    assert core.needed_images == [sha256(A)]
    put(core, A)
    core.run()
    assert core.finished[1] is FinishReason.LENGTH


def test_features_that_give_way_during_the_wait_are_asked_for_again(checkpoint):
    core = LocalCore(checkpoint, fake=True, fake_rate=0.0, image_pixels_mib=0, max_num_seqs=1)
    images = core.images
    images.num_slots, images._free_slots = 1, [0]
    core.submit(1, _spec([A, 5]))
    core.step()
    put(core, A)
    core.run()
    # A's features are there, its pixels are not; B takes the only slot before A comes up again.
    core.submit(2, _spec([5], max_tokens=5))
    core.submit(3, _spec([B, 5]))
    core.submit(4, _spec([A, 6]))
    core.step()
    put(core, B)
    while len(core.needed_images) < 3:
        core.step()
    put(core, A)
    core.run()
    assert core.needed_images == [sha256(A), sha256(B), sha256(A)]
    assert list(core.finished) == [1, 2, 3, 4]


def test_a_broken_step_leaves_images_to_the_others(core, monkeypatch):
    launch = core.core._runner.launch
    broken = []

    def launch_once(plan):
        if plan.images and not broken:
            broken.append(plan)
            raise RuntimeError("broken")
        return launch(plan)

    monkeypatch.setattr(core.core._runner, "launch", launch_once)
    for number in (1, 2, 3):
        core.submit(number, _spec([A, number]))
    put(core, A)
    core.run()
    assert [core.finished[number] for number in (1, 2, 3)] == [
        FinishReason.ERROR, FinishReason.ERROR, FinishReason.LENGTH,
    ]  # fmt: skip
    assert core.images.num_computed == 2


def test_more_images_than_the_memory_for_pixels_holds_are_refused_with_a_retry_delay(core):
    # 445 images of 28 x 28 in a MiB; the same image counts once.
    engine = Engine(EngineConfig(image_pixels_mib=1))
    engine.info = core.info
    with engine.session() as session:
        for number in range(444):
            engine.submit(session, number, _named_spec(number))
        engine.submit(session, 444, _named_spec(0))
        engine.submit(session, 445, _named_spec(1000))
        with pytest.raises(OverloadedError, match="446 images, at most 445") as error:
            engine.submit(session, 446, _named_spec(1001))
        engine.submit(session, 447, SequenceSpec((1,), 3))
        engine.end(session, 7)
        engine.submit(session, 448, _named_spec(1001))
    assert error.value.retry_delay_s


def _named_spec(number):
    return SequenceSpec((90,) * 16, 3, images=(ImageRef(number.to_bytes(32, "big"), 0, 16),))


def test_commands_are_obeyed_in_order(core):
    core.pipe.commands.append(PutImage(sha256(A), A.numpy().tobytes()))
    core.submit(1, _spec([A, 5]))
    core.run()
    assert core.needed_images == []
