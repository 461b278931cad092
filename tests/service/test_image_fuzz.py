"""Mutated image files through the tokenizer service: an answer or INVALID_ARGUMENT, within a bound of memory.

TANDEM_FUZZ_IMAGES says how many files, 500 by default; TANDEM_FUZZ_SEED which.
"""

import asyncio
import collections
import os
import resource

import grpc
import pytest

from support.mutated_images import mutated, seeds
from support.scripted_engine import LENGTH
from support.small_tokenizers import write_vision_model_dir
from support.tokenizer_fixture import encode, events_of, serving
from tandem.v1 import inference_pb2

COUNT = int(os.environ.get("TANDEM_FUZZ_IMAGES", "500"))
SEED = int(os.environ.get("TANDEM_FUZZ_SEED", "0"))
MAX_PIXELS = 2**22
# Two threads, each with a picture of four bytes a pixel, its conversion and what the decoder needs.
MAX_GROWTH_BYTES = 2 * 6 * 4 * MAX_PIXELS


async def dog(link, submit):
    await link.step(submit.sequence, encode("dog"), starts=True, finish=LENGTH)


async def outcome(found, data):
    request = inference_pb2.GenerateRequest(prompt="<image>", images=[{"data": data}])
    try:
        return (await events_of(found.stub.Generate(request)))[-1].WhichOneof("event")
    except grpc.aio.AioRpcError as error:
        return error.code().name


async def outcomes(directory, files):
    async with serving(directory, dog, has_vision=True, max_image_pixels=MAX_PIXELS) as found:
        return [await outcome(found, data) for data in files]


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.timeout(600)
def test_mutated_images_are_answered_or_refused(tmp_path):
    directory = write_vision_model_dir(tmp_path)
    assert set(asyncio.run(outcomes(directory, seeds()))) == {"finished"}
    before = peak_bytes()
    counts = collections.Counter(asyncio.run(outcomes(directory, mutated(COUNT, SEED))))
    assert set(counts) == {"finished", "INVALID_ARGUMENT"}
    assert min(counts.values()) > COUNT // 20, counts
    assert peak_bytes() - before < MAX_GROWTH_BYTES
