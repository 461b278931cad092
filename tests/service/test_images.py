"""Images from a request to the engine, which is scripted: placeholders, pixels, hashes, refusals."""

import asyncio

import grpc
import pytest

from support.image_requests import DARK, RED, dog, picture, pixels_of, request, served, sha256, submits
from support.small_tokenizers import with_images, write_vision_model_dir
from support.tokenizer_fixture import encode, events_of, failure_of_call, serving
from tandem.v1 import inference_pb2

IMAGE = with_images().token_to_id("<image>")
PARTS_TEMPLATE = (
    "{% for message in messages %}<|user|>{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endfor %}<|assistant|>"
)
TEXT_TEMPLATE = "{% for message in messages %}<|user|>{{ message.content }}{% endfor %}<|assistant|>"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_vision_model_dir(tmp_path_factory.mktemp("vision"), PARTS_TEMPLATE)


async def never(link, submit):
    raise AssertionError("a bad request must not reach the engine")


def refused(model_dir, message, **flags):
    async def main():
        async with serving(model_dir, never, has_vision=True, **flags) as found:
            return await failure_of_call(found.stub.Generate(message))

    return asyncio.run(main())


def test_each_placeholder_becomes_the_tokens_of_its_image(model_dir):
    engine = served(model_dir, request("<image> and <image>", [{"data": RED}, {"data": DARK}]))
    (submit,) = submits(engine)
    ids = [*[IMAGE] * 4, *encode(" and "), *[IMAGE] * 4]
    assert list(submit.spec.token_ids) == ids
    found = [(each.sha256, each.start, each.length) for each in submit.spec.images]
    assert found == [(sha256(pixels_of(255)), 0, 4), (sha256(pixels_of(50)), len(ids) - 4, 4)]
    put = {each.sha256: (each.height, each.width, each.pixels) for each in engine.images}
    assert put == {sha256(pixels_of(shade)): (28, 28, pixels_of(shade)) for shade in (255, 50)}


def test_pixels_travel_once(model_dir):
    known = [{"sha256": sha256(RED)}]
    many = request(n=3)
    engine = served(model_dir, request(), many, request(images=known), request("<image><image>", known * 2))
    assert len(engine.images) == 1
    assert [len(submit.spec.images) for submit in submits(engine)] == [1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("template", [PARTS_TEMPLATE, TEXT_TEMPLATE], ids=["parts", "text"])
def test_images_of_a_chat_stand_where_they_were_said(tmp_path, template):
    directory = write_vision_model_dir(tmp_path, template)
    content = [{"text": "a"}, {"text": "b"}, {"image": {"data": RED}}, {"text": "c"}]
    messages = [
        {"role": "user", "content": content},
        {"role": "user", "content": [{"image": {"data": DARK}}, {"text": "d"}]},
    ]
    engine = served(directory, inference_pb2.GenerateRequest(chat={"messages": messages}))
    (submit,) = submits(engine)
    line = "\n" if template is TEXT_TEMPLATE else ""
    text = f"<|user|>ab<image>{line}c<|user|><image>{line}d<|assistant|>"
    expected = []
    for token in with_images().encode(text, add_special_tokens=False).ids:
        expected += [token] * (4 if token == IMAGE else 1)
    assert list(submit.spec.token_ids) == expected
    assert [each.sha256 for each in submit.spec.images] == [sha256(pixels_of(255)), sha256(pixels_of(50))]


def test_token_ids_have_all_placeholders_as_an_echo_shows_them(model_dir):
    async def main():
        async with serving(model_dir, dog, has_vision=True) as found:
            first = await events_of(found.stub.Generate(request(output={"echo": True})))
            ids = first[0].started.prompt_token_ids
            again = inference_pb2.GenerateRequest(token_ids={"ids": ids}, images=[{"data": RED}])
            await events_of(found.stub.Generate(again))
            return first[0].started, submits(found.engine)

    started, (one, two) = asyncio.run(main())
    assert started.prompt == "see <image>!"
    assert started.prompt_tokens == len(started.prompt_token_ids) == len(encode("see !")) + 4
    assert one.spec.images == two.spec.images
    assert one.spec.token_ids == two.spec.token_ids


def test_tokenize_counts_what_generate_uses(model_dir):
    async def main():
        async with serving(model_dir, never, has_vision=True) as found:
            text = await found.stub.Tokenize(inference_pb2.TokenizeRequest(prompt="see <image>!"))
            content = [{"text": "see"}, {"image": {"data": b"not looked at"}}]
            chat = {"messages": [{"role": "user", "content": content}]}
            return text, await found.stub.Tokenize(inference_pb2.TokenizeRequest(chat=chat))

    text, chat = asyncio.run(main())
    assert list(text.token_ids).count(IMAGE) == list(chat.token_ids).count(IMAGE) == 4
    assert text.text == "see <image>!"


def test_tokenize_bounds_the_placeholders(model_dir):
    async def main():
        async with serving(model_dir, never, has_vision=True) as found:
            message = inference_pb2.TokenizeRequest(prompt="<image>" * 17)
            return await failure_of_call(found.stub.Tokenize(message))

    code, error = asyncio.run(main())
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert error.message == "prompt: 17 <image> placeholders; at most 16"


def test_the_model_is_listed_with_vision(model_dir):
    async def main():
        async with serving(model_dir, never, has_vision=True) as found:
            return (await found.stub.ListModels(inference_pb2.ListModelsRequest())).models[0]

    assert asyncio.run(main()).has_vision


CHAT = {"messages": [{"role": "user", "content": [{"text": "see <image>"}, {"image": {"data": RED}}]}]}
ALIASES = [{"data": RED}] * 17
MISMATCHES = {
    "no-image": (request(images=[]), "prompt", "1 <image> placeholders for 0 images"),
    "no-placeholder": (request("see"), "prompt", "0 <image> placeholders for 1 images"),
    "too-few": (request("<image>" * 2, [{"data": RED}] * 3), "prompt", "2 <image> placeholders for 3 images"),
    "text-of-a-chat": (
        inference_pb2.GenerateRequest(chat=CHAT), "chat", "2 <image> placeholders for 1 images"
    ),
    "ids-without-image": (
        inference_pb2.GenerateRequest(token_ids={"ids": [5, IMAGE]}),
        "token_ids",
        f"1 placeholder ids {IMAGE} for 0 images; each image needs 4 in one run",
    ),
    "ids-not-expanded": (
        inference_pb2.GenerateRequest(token_ids={"ids": [5, IMAGE]}, images=[{"data": RED}]),
        "token_ids",
        f"1 placeholder ids {IMAGE} for 1 images; each image needs 4 in one run",
    ),
    "too-many": (request("<image>" * 17, ALIASES), "images", "17 images; at most 16"),
    "too-many-in-a-chat": (
        inference_pb2.GenerateRequest(
            chat={"messages": [{"role": "user", "content": [{"image": each} for each in ALIASES]}]}
        ),
        "chat.messages",
        "17 images; at most 16",
    ),
    "beside-a-chat": (
        inference_pb2.GenerateRequest(chat=CHAT, images=[{"data": RED}]),
        "images",
        "1 sent beside a chat, whose images are parts of its messages",
    ),
    "no-source": (request(images=[{}]), "images[0]", "one of data, sha256 must be set"),
    "short-hash": (request(images=[{"sha256": b"abc"}]), "images[0].sha256", "has 3 bytes; must have 32"),
    "no-image-file": (request(images=[{"data": b"hello"}]), "images[0].data", "no PNG, JPEG, WebP, GIF or"),
    "truncated": (request(images=[{"data": RED[:60]}]), "images[0].data", "truncated or damaged"),
    "too-many-bytes": (request(images=[{"data": RED + b"x" * 10**6}]), "images[0].data", "at most 1000000"),
    "too-many-pixels": (
        request(images=[{"data": picture(1, (200, 200))}]),
        "images[0].data",
        "200 x 200 = 40000 pixels; at most 30000",
    ),
    "bad-in-a-chat": (
        inference_pb2.GenerateRequest(
            chat={"messages": [{"role": "user", "content": [{"text": "a"}, {"image": {"data": b""}}]}]}
        ),
        "chat.messages[0].content[1].image.data",
        "is empty",
    ),
    "does-not-fit": (request("<image>" * 64, [{"data": RED}] * 64), "images", "64 images"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "field", "said"), MISMATCHES.values(), ids=MISMATCHES)
def test_a_bad_image_is_named_with_its_bound(model_dir, message, field, said):
    code, error = refused(model_dir, message, max_image_bytes=1_000_000, max_image_pixels=30_000)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert [each.field for each in error.violations] == [field]
    assert said in error.violations[0].description


def test_all_bad_images_are_named_at_once(model_dir):
    images = [{"data": b"a"}, {"data": RED}, {"data": b"b"}]
    _, error = refused(model_dir, request("<image>" * 3, images))
    assert [each.field for each in error.violations] == ["images[0].data", "images[2].data"]


def test_placeholders_count_towards_the_context(model_dir):
    code, error = refused(model_dir, request("<image>" * 64, [{"data": RED}] * 64), max_images=64)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "has 256 tokens" in error.message


def test_an_unknown_hash_is_not_found(model_dir):
    code, error = refused(model_dir, request(images=[{"sha256": sha256(RED)}]))
    assert code == grpc.StatusCode.NOT_FOUND
    assert error.violations[0].field == "images[0].sha256"
    assert sha256(RED).hex() in error.message


def test_a_hash_is_forgotten_when_others_need_the_room(model_dir):
    async def main():
        async with serving(model_dir, dog, has_vision=True, image_cache_bytes=28 * 28 * 3) as found:
            await events_of(found.stub.Generate(request()))
            await events_of(found.stub.Generate(request(images=[{"sha256": sha256(RED)}])))
            await events_of(found.stub.Generate(request(images=[{"data": DARK}])))
            return await failure_of_call(found.stub.Generate(request(images=[{"sha256": sha256(RED)}])))

    assert asyncio.run(main())[0] == grpc.StatusCode.NOT_FOUND


def test_an_engine_without_vision_takes_no_images(model_dir):
    async def main():
        async with serving(model_dir, never) as found:
            return await failure_of_call(found.stub.Generate(request()))

    code, error = asyncio.run(main())
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "takes no images" in error.message
