"""What the picture model is trained on: tokenizer, rows, processor files, and the loss."""

import io
import os
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image
from tokenizers import Tokenizer

from tandem_demo.pictures.composing import make_scene
from tandem_demo.pictures.drawing import draw
from tandem_demo.pictures.generate import Generator
from tandem_demo.pictures.overviews import make_json
from tandem_demo.pictures.pixels import IMAGE_SIDE, encode, to_pixels
from tandem_demo.pictures.processor import CONTEXT_LENGTH, IMAGE_PROCESSOR, PROCESSOR, save_processor
from tandem_demo.pictures.rows import (
    NUM_PATCHES,
    TEXT_LENGTH,
    fill_row,
    fill_rows,
    held_out_rng,
    make_held_out,
    new_rows,
    patch_labels,
    training_rng,
)
from tandem_demo.pictures.scene import COLOURS, KINDS, Scene
from tandem_demo.pictures.tasks import GRADED_TASKS, draw_exchange, draw_for_task
from tandem_demo.pictures.tokenizer import (
    BEGIN_ID,
    CHAT_TEMPLATE,
    END_ID,
    IMAGE_ID,
    PAD_ID,
    ROLE_IDS,
    encode_exchanges,
    train_tokenizer,
)

NUM_SCENES = 250


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(seed=0, num_scenes=300)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = Random(1)
    return [make_scene(rng) for _ in range(NUM_SCENES)]


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_any_text_survives_the_picture_models_tokenizer(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_training_ids_are_those_of_the_rendered_chat(tokenizer):
    jinja2 = pytest.importorskip("jinja2", reason="the template engine comes with the tokenizer extra")
    template = jinja2.Template(CHAT_TEMPLATE)
    rng = Random(11)
    exchanges = [draw_exchange(make_scene(rng), rng) for _ in range(2)]
    (first, _), (second, learnt) = encode_exchanges(tokenizer, exchanges)
    picture = {"type": "image"}
    messages = [
        {"role": "user", "content": [picture, {"type": "text", "text": exchanges[0].question}]},
        {"role": "assistant", "content": exchanges[0].answer},
        {"role": "user", "content": exchanges[1].question},
        {"role": "assistant", "content": [{"type": "text", "text": exchanges[1].answer}]},
    ]
    rendered = template.render(messages=messages, bos_token="<|begin|>", add_generation_prompt=False)
    ids = tokenizer.encode(rendered, add_special_tokens=False).ids
    user = ROLE_IDS["user"]
    assert ids == [BEGIN_ID, user, IMAGE_ID, *first, user, *second]
    written = [token for token, is_learnt in zip(second, learnt, strict=True) if is_learnt]
    assert written[-1] == END_ID
    assert tokenizer.decode(written) == exchanges[1].answer


def test_training_rows_are_repeatable_and_full(tokenizer):
    def make() -> list[np.ndarray]:
        rows = new_rows(20)
        fill_rows(rows, tokenizer, training_rng(0, 7))
        return [rows.pixels, rows.ids, rows.learnt, rows.kinds, rows.colours]

    pixels, ids, learnt, kinds, colours = make()
    assert all((first == second).all() for first, second in zip(make(), make(), strict=True))
    assert pixels.shape == (20, IMAGE_SIDE, IMAGE_SIDE, 3)
    assert ((ids != PAD_ID).sum(axis=1) > TEXT_LENGTH / 4).all()
    assert (learnt.sum(axis=1) > 3).all()
    assert not learnt[ids == PAD_ID].any()
    assert ((kinds > 0) == (colours > 0)).all()


def test_held_out_rows_hold_one_question_each_and_repeat(tokenizer):
    rows, again = make_held_out(tokenizer, 0, 2), make_held_out(tokenizer, 0, 2)
    assert len(rows) == 2 * len(GRADED_TASKS)
    assert (rows.pixels == again.pixels).all()
    assert ((rows.ids == ROLE_IDS["assistant"]).sum(axis=1) == 1).all()


@pytest.mark.parametrize("task", GRADED_TASKS)
def test_every_graded_task_has_held_out_questions(task):
    exchanges = [draw_for_task(task, held_out_rng(task, 0, index))[1] for index in range(10)]
    assert {exchange.task for exchange in exchanges} == {task}
    assert len({exchange.question for exchange in exchanges}) > 1


def test_every_item_marks_a_patch(scenes):
    for scene in scenes:
        kinds, colours = patch_labels(scene)
        assert kinds.shape == (NUM_PATCHES,)
        assert {KINDS[kind - 1] for kind in kinds if kind} == {item.kind for item in scene.items}
        names = list(COLOURS)
        assert {names[colour - 1] for colour in colours if colour} == {item.colour for item in scene.items}


@pytest.mark.parametrize("side", [96, 97, 160, 300])
def test_pixels_equal_those_of_the_image_processor(tmp_path, tokenizer, side):
    transformers = pytest.importorskip("transformers")
    save_processor(tokenizer, tmp_path)
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, local_files_only=True)
    picture = draw(make_scene(Random(side)), side)
    seen = processor(picture, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
    assert (np.asarray(seen).transpose(1, 2, 0) == to_pixels(picture)).all()


def test_the_processor_loads_offline_and_writes_one_placeholder_a_patch(tmp_path, tokenizer):
    transformers = pytest.importorskip("transformers")
    save_processor(tokenizer, tmp_path)
    processor = transformers.LlavaProcessor.from_pretrained(tmp_path, local_files_only=True)
    message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}
    prompt = processor.apply_chat_template([message], add_generation_prompt=True)
    ids = processor.tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert ids[:3] == [BEGIN_ID, ROLE_IDS["user"], IMAGE_ID]
    assert ids[-1] == ROLE_IDS["assistant"]
    assert processor.image_token_id == IMAGE_ID
    assert processor.tokenizer.model_max_length == CONTEXT_LENGTH
    [counts] = processor._get_num_multimodal_tokens([(200, 300)])["num_image_tokens"]
    assert counts == NUM_PATCHES == (IMAGE_SIDE // PROCESSOR["patch_size"]) ** 2


def test_the_processors_configuration_says_all_that_resizing_and_normalizing_need():
    assert IMAGE_PROCESSOR["size"] == {"shortest_edge": IMAGE_SIDE}
    assert IMAGE_PROCESSOR["crop_size"] == {"height": IMAGE_SIDE, "width": IMAGE_SIDE}
    assert IMAGE_PROCESSOR["resample"] == Image.Resampling.BICUBIC
    assert len(IMAGE_PROCESSOR["image_mean"]) == len(IMAGE_PROCESSOR["image_std"]) == 3


@pytest.mark.parametrize("file_format", ["PNG", "JPEG"])
def test_pictures_survive_their_files(file_format):
    picture = draw(make_scene(Random(12), 2), 128)
    read = Image.open(io.BytesIO(encode(picture, file_format, 95))).convert("RGB")
    difference = np.abs(np.asarray(read, dtype=float) - np.asarray(picture, dtype=float))
    assert read.size == picture.size
    assert difference.mean() < (0.01 if file_format == "PNG" else 6)


def test_training_computes_what_transformers_computes_from_the_saved_files(tmp_path, tokenizer):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tandem_demo.pictures.loss import Learner
    from tandem_demo.pictures.model import load_model, make_model, save_checkpoint
    from tandem_demo.pictures.pool import to_device

    torch.manual_seed(0)
    device = torch.device("cpu")
    num_bytes = save_checkpoint(make_model(device), tokenizer, tmp_path / "model")
    assert num_bytes < 12_000_000
    model = load_model(tmp_path / "model", device, torch.float32)
    rng = Random(13)
    scene = make_scene(rng, 3)
    picture, exchange = draw(scene, IMAGE_SIDE), make_json(scene, rng)
    rows = new_rows(1)
    fill_row(rows, 0, scene, [exchange], tokenizer, Random(14))
    rows.pixels[0] = to_pixels(picture)
    processor = transformers.LlavaProcessor.from_pretrained(tmp_path / "model", local_files_only=True)
    prompt = f"<|begin|><|user|><image>{exchange.question}<|end|><|assistant|>{exchange.answer}<|end|>"
    inputs = processor(images=[picture], text=[prompt], add_special_tokens=False, return_tensors="pt")
    learner, batch = Learner(model, compiled=False), to_device(rows, device)
    with torch.no_grad():
        logits = model(**inputs).logits[0, 1 + NUM_PATCHES : -1]
        targets = inputs["input_ids"][0, 2 + NUM_PATCHES :]
        learnt = batch.learnt[0, : len(targets)]
        expected = torch.nn.functional.cross_entropy(logits[learnt], targets[learnt])
        loss, _, right = learner.loss(batch)
    assert (batch.ids[0, : len(targets)] == targets).all()
    assert (right[0, : len(targets)] == (logits.argmax(-1) == targets)).all()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="rows are made in forked processes")
def test_rows_made_in_a_process_are_those_made_here(tokenizer):
    program = Generator(tokenizer, seed=3, num_processes=1, num_slots=1)
    try:
        [made] = program.ready(1, wait=True)
        pixels, ids = made.pixels[:20].copy(), made.ids[:20].copy()
    finally:
        program.stop()
    expected = new_rows(20)
    fill_rows(expected, tokenizer, training_rng(3, 0))
    assert (pixels == expected.pixels).all()
    assert (ids == expected.ids).all()
