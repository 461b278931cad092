"""Requests with pictures to a tokenizer service whose engine is scripted, and what the engine was told."""

import asyncio
import hashlib
import io

import numpy as np
from PIL import Image

from support.scripted_engine import LENGTH
from support.tokenizer_fixture import encode, events_of, serving
from tandem.v1 import inference_pb2


def picture(shade, size=(28, 28), kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", size, (shade, 0, 0)).save(file, kind)
    return file.getvalue()


def pixels_of(shade):
    return np.full((28, 28, 3), (shade, 0, 0), np.uint8).tobytes()


def sha256(data):
    return hashlib.sha256(data).digest()


RED, DARK = picture(255), picture(50)


async def dog(link, submit):
    await link.step(submit.sequence, encode("dog"), starts=True, finish=LENGTH)


def request(prompt="see <image>!", images=({"data": RED},), **fields):
    return inference_pb2.GenerateRequest(prompt=prompt, images=images, **fields)


def submits(engine):
    return [submit for link in engine.links for command in link.commands for submit in command.submits]


def served(model_dir, *requests, **flags):
    """What the engine was told, after requests that ran one after the other."""

    async def main():
        async with serving(model_dir, dog, has_vision=True, **flags) as found:
            for each in requests:
                assert (await events_of(found.stub.Generate(each)))[-1].HasField("finished")
            return found.engine

    return asyncio.run(main())
