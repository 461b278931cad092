"""The picture model that ships, through both services: right answers, and transformers' ids."""

import io

import pytest
import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import tandem
from support.processes import running_service
from tandem.cli.demo_pictures import show_pictures
from tandem_demo import PICTURE_MODEL_DIR
from tandem_demo.pictures.drawing import draw
from tandem_demo.pictures.evaluate import make_question
from tandem_demo.pictures.example import ASKS, SIDE, make_example
from tandem_demo.pictures.pixels import encode
from tandem_demo.pictures.tasks import GRADED_TASKS
from tandem_demo.pictures.tokenizer import CHAT_TEMPLATE


@pytest.fixture(scope="module")
def client():
    flag = "--model=demo-pictures"
    with (
        running_service("engine_service", flag) as engine,
        running_service("tokenizer_service", f"--engine={engine.address}", flag) as tokenizer,
        tandem.Client(tokenizer.address) as client,
    ):
        yield client


def ask(client, data, *texts, **options):
    message = {"role": "user", "content": [tandem.image(data), *texts]}
    return client.chat([message], temperature=0, max_tokens=192, **options)


@pytest.mark.parametrize("index", [0, 1], ids=["png", "jpeg"])
@pytest.mark.parametrize("task", GRADED_TASKS)
def test_held_out_questions_are_answered(client, task, index):
    question = make_question(task, 2, index)
    assert ask(client, question.picture, question.text).text == question.answer


@pytest.fixture(scope="module")
def oracle():
    """What transformers generates from a file and a question, in float32."""
    model = LlavaForConditionalGeneration.from_pretrained(PICTURE_MODEL_DIR, dtype=torch.float32).eval()
    processor = LlavaProcessor.from_pretrained(PICTURE_MODEL_DIR, local_files_only=True)
    processor.image_processor = CLIPImageProcessorPil.from_pretrained(PICTURE_MODEL_DIR)

    def ids(data, text):
        prompt = f"<|begin|><|user|><image>{text}<|end|><|assistant|>"
        picture = Image.open(io.BytesIO(data))
        batch = processor(text=prompt, images=picture, add_special_tokens=False, return_tensors="pt")
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values")}
        with torch.inference_mode():
            output = model.generate(**inputs, do_sample=False, max_new_tokens=192)
        return tuple(output[0, batch["input_ids"].shape[1] :].tolist())

    return ids


@pytest.mark.parametrize("index", range(6))
@pytest.mark.parametrize("task", ["describe", "json", "relation"])
def test_greedy_ids_equal_transformers(client, oracle, task, index):
    question = make_question(task, 3, index)
    answer = ask(client, question.picture, question.text, return_token_ids=True, include_stop=True)
    assert answer.token_ids == oracle(question.picture, question.text)


def test_a_conversation_about_one_picture_goes_on(client):
    photo = tandem.image(encode(draw(make_example(), SIDE), "JPEG"))
    turns = [{"role": "user", "content": [photo, ASKS[0].question]}]
    for each, following in zip(ASKS, (*ASKS[1:], None), strict=True):
        answer = client.chat(turns, temperature=0).text
        assert answer == each.answer
        if following:
            turns += [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": following.question},
            ]


def test_the_demo_shows_a_picture_and_its_answers_change_with_it(client, tmp_path, capsys):
    show_pictures(client, str(tmp_path / "new"))
    said = capsys.readouterr()
    before, _, after = said.out.partition("\nThe same with the star and the circle swapped, saved as ")
    assert f"A picture, saved as {tmp_path}/new/picture.png\n" in before
    assert after.startswith(f"{tmp_path}/new/swapped.png\n")
    for each in ASKS:
        assert f"\n> {each.question}\n{each.answer}\n" in before
        assert f"\n> {each.question}\n{each.answer_when_swapped}\n" in after
    assert [line.split(",")[0] for line in said.err.splitlines()] == ["[picture.png", "[swapped.png"]


def test_a_picture_may_stand_behind_its_question(client):
    photo = tandem.image(encode(draw(make_example(), SIDE), "PNG"))
    messages = [{"role": "user", "content": [ASKS[2].question, photo]}]
    assert client.chat(messages, temperature=0).text == ASKS[2].answer


def test_the_shipped_files_are_small_and_hold_the_template_of_the_code():
    assert sum(path.stat().st_size for path in PICTURE_MODEL_DIR.iterdir()) < 12_000_000
    assert (PICTURE_MODEL_DIR / "chat_template.jinja").read_text() == CHAT_TEMPLATE
