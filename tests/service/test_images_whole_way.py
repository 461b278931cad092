"""Image files through client, tokenizer service and engine service: transformers' ids, over real sockets."""

import asyncio
import contextlib
import io
import os
import signal
import time

import grpc
import numpy as np
import pytest
from PIL import Image
from transformers import LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import tandem
from support.processes import running_service, wait_until_serving
from support.seeing_model import seeing_model, write_seeing_model
from tandem.engine.v1 import engine_pb2, engine_pb2_grpc
from tokenizer_service.tokenizer import load_tokenizer

NUM_TOKENS = 12
PROMPTS = {
    "first": ("<image> fox", [0]),
    "last": ("the fox <image>", [1]),
    "middle": ("the <image> fox", [2]),
    "two": ("<image> and <image>", [0, 1]),
    "three": ("<image><image><image> dog", [2, 1, 0]),
    "repeated": ("see <image> twice <image>", [1, 1]),
}


def photo(number, kind):
    pixels = np.random.default_rng(number).integers(0, 256, (60 + 9 * number, 90, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


PHOTOS = [photo(0, "PNG"), photo(1, "JPEG"), photo(2, "WEBP")]


@pytest.fixture(scope="module")
def model():
    return seeing_model()


@pytest.fixture(scope="module")
def model_dir(model, tmp_path_factory):
    return write_seeing_model(model, tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def services(model_dir):
    flag = f"--model={model_dir}"
    with (
        running_service("engine_service", flag) as engine,
        running_service("tokenizer_service", f"--engine={engine.address}", flag) as tokenizer,
    ):
        yield tokenizer, engine


@pytest.fixture(scope="module")
def expected(model, model_dir):
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil.from_pretrained(model_dir),
        tokenizer=load_tokenizer(model_dir, 1).source,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )

    def ids(prompt, photos):
        pictures = [Image.open(io.BytesIO(PHOTOS[i])) for i in photos]
        batch = processor(text=prompt, images=pictures, add_special_tokens=False, return_tensors="pt")
        output = model.generate(
            **{name: batch[name] for name in ("input_ids", "attention_mask", "pixel_values")},
            do_sample=False,
            max_new_tokens=NUM_TOKENS,
            min_new_tokens=NUM_TOKENS,
            eos_token_id=None,
        )
        return tuple(output[0, batch["input_ids"].shape[1] :].tolist())

    return {name: ids(*case) for name, case in PROMPTS.items()}


OPTIONS = {"temperature": 0, "max_tokens": NUM_TOKENS, "ignore_eos": True, "return_token_ids": True}


@pytest.mark.parametrize("name", PROMPTS)
def test_ids_are_those_of_transformers_from_bytes_and_by_hash(services, expected, name):
    prompt, photos = PROMPTS[name]
    images = [tandem.image(PHOTOS[i]) for i in photos]
    with tandem.Client(services[0].address) as client:
        fresh = client.generate(prompt, images=images, **OPTIONS)
        again = client.generate(prompt, images=[each.by_hash() for each in images], **OPTIONS)
    assert fresh.token_ids == again.token_ids == expected[name]


def test_a_chat_shows_the_same_picture(services):
    image = tandem.image(PHOTOS[0])
    with tandem.Client(services[0].address) as client:
        chat = client.chat([{"role": "user", "content": ["what is", image]}], **OPTIONS)
        plain = client.generate("<|user|>what is<image><|assistant|>", images=[image], **OPTIONS)
    assert chat.token_ids == plain.token_ids


def test_requests_with_and_without_pictures_share_batches(services, expected):
    async def main():
        async with tandem.AsyncClient(services[0].address) as client:
            names = [name for name in PROMPTS for _ in range(4)]
            pictures = [[tandem.image(PHOTOS[i]) for i in PROMPTS[name][1]] for name in names]
            alone = (await client.generate("the dog", **OPTIONS)).token_ids
            calls = [
                client.generate(PROMPTS[name][0], images=images, **OPTIONS)
                for name, images in zip(names, pictures, strict=True)
            ]
            texts = [client.generate("the dog", **OPTIONS) for _ in range(8)]
            found = await asyncio.gather(*calls, *texts)
            return names, [each.token_ids for each in found], alone

    names, found, alone = asyncio.run(main())
    assert found == [*(expected[name] for name in names), *[alone] * 8]


def core_of(engine):
    """The process of the engine's core, which its epoch begins with."""
    with grpc.insecure_channel(engine.address) as channel:
        stub = engine_pb2_grpc.EngineStub(channel)
        return int(stub.GetEngineInfo(engine_pb2.GetEngineInfoRequest()).info.epoch.split("-")[0])


def test_a_new_core_gets_the_pictures_again_by_hash_alone(services, expected):
    tokenizer, engine = services
    prompt, photos = PROMPTS["middle"]
    image = tandem.image(PHOTOS[photos[0]])
    with tandem.Client(tokenizer.address) as client:
        client.generate(prompt, images=[image], **OPTIONS)
        os.kill(core_of(engine), signal.SIGKILL)
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            wait_until_serving(tokenizer)
            with contextlib.suppress(tandem.UnavailableError):
                found = client.generate(prompt, images=[image.by_hash()], **OPTIONS)
                break
            time.sleep(0.1)
    assert found.token_ids == expected["middle"]
