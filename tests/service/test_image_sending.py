"""Images on their way to the engine, which is scripted: sent once, again where they got lost, in bounds."""

import asyncio
import contextlib

import grpc
import pytest

from support.image_requests import DARK, RED, dog, picture, pixels_of, request, served, sha256, submits
from support.scripted_engine import running_engine
from support.small_tokenizers import write_vision_model_dir
from support.tokenizer_fixture import events_of, failure_of_call, serving
from tandem.engine.v1 import engine_pb2


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_vision_model_dir(tmp_path_factory.mktemp("vision"), "")


def test_an_image_goes_before_the_sequence_that_needs_it_one_in_a_message(model_dir):
    engine = served(model_dir, request("<image><image>", [{"data": RED}, {"data": DARK}]), request())
    (link,) = engine.links
    assert [(len(each.images), len(each.submits)) for each in link.commands] == [(1, 0), (1, 1), (0, 1)]
    assert engine.num_puts == 0


def need(link, data):
    frame = engine_pb2.SessionResponse(need_image=engine_pb2.NeedImage(sha256=sha256(data)))
    return link.send(frame)


def test_an_engine_that_lost_an_image_gets_it_again(model_dir):
    async def main():
        async def forgetful(link, submit):
            if submit.sequence == 2:
                await need(link, b"another")
                await need(link, pixels_of(255))
                await found.engine.until(lambda: len(found.engine.images) == 2)
            await dog(link, submit)

        async with serving(model_dir, forgetful, has_vision=True) as found:
            for _ in range(3):
                assert (await events_of(found.stub.Generate(request())))[-1].HasField("finished")
            return found.engine.images

    images = asyncio.run(main())
    assert [each.pixels for each in images] == [pixels_of(255)] * 2


def test_a_new_connection_gets_the_images_again(model_dir):
    async def main():
        revived = False

        async def script(link, submit):
            if revived:
                await dog(link, submit)

        async with serving(model_dir, script, with_engine=False, has_vision=True) as found:
            async with running_engine(found.engine, found.engine_address):
                await found.until_health(1)
                hidden = found.stub.Generate(request())
                await found.engine.until(lambda: bool(found.engine.images))
                await found.engine.links[0].until(lambda: bool(submits(found.engine)))
            await found.until_health(2)
            revived = True
            async with running_engine(found.engine, found.engine_address):
                events = await events_of(hidden)
                await events_of(found.stub.Generate(request()))
            return events, found.engine

    events, engine = asyncio.run(main())
    assert events[-1].HasField("finished")
    assert len(engine.images) == 2


@contextlib.asynccontextmanager
async def serving_to_one_that_looks(model_dir):
    """An engine that answers once it has the images."""

    async def look(link, submit):
        wanted = {image.sha256 for image in submit.spec.images}
        await found.engine.until(lambda: wanted <= {image.sha256 for image in found.engine.images})
        await dog(link, submit)

    async with serving(model_dir, look, has_vision=True) as found:
        yield found


def test_a_put_that_found_nobody_is_made_again(model_dir):
    async def main():
        async with serving_to_one_that_looks(model_dir) as found:
            found.engine.image_failures = [grpc.StatusCode.UNAVAILABLE] * 2
            return await events_of(found.stub.Generate(request())), found.engine

    events, engine = asyncio.run(main())
    assert events[-1].HasField("finished")
    assert engine.num_puts == 3


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL),
    ],
    ids=["full", "refused"],
)
def test_an_image_that_the_engine_does_not_take_fails_its_request_alone(model_dir, failure, code):
    async def main():
        async with serving_to_one_that_looks(model_dir) as found:
            found.engine.image_failures = [failure]
            failed = await failure_of_call(found.stub.Generate(request()))
            text = await events_of(found.stub.Generate(request("plain", [])))
            again = await events_of(found.stub.Generate(request()))
            return failed[0], text, again

    found, text, again = asyncio.run(main())
    assert found == code
    assert text[-1].HasField("finished")
    assert again[-1].HasField("finished")


def test_more_images_than_the_memory_holds_are_refused_for_now(model_dir):
    async def main():
        async with serving(model_dir, dog, has_vision=True, image_memory_bytes=3000) as found:
            await events_of(found.stub.Generate(request()))
            await events_of(found.stub.Generate(request()))
            return await failure_of_call(found.stub.Generate(request(images=[{"data": DARK * 30}])))

    code, error = asyncio.run(main())
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "image_memory_bytes=3000" in error.message
    assert error.retry_delay_s


def test_memory_comes_back_with_the_end_of_a_request(model_dir):
    async def main():
        flags = {"image_memory_bytes": 3000, "image_cache_bytes": 0}
        async with serving(model_dir, dog, has_vision=True, **flags) as found:
            for shade in range(20):
                await events_of(found.stub.Generate(request(images=[{"data": picture(shade)}])))
            return found.engine

    assert len(asyncio.run(main()).images) == 20


def test_many_requests_share_one_sending(model_dir):
    async def main():
        async with serving(model_dir, dog, has_vision=True) as found:
            calls = [events_of(found.stub.Generate(request(n=2))) for _ in range(16)]
            await asyncio.gather(*calls)
            return found.engine

    engine = asyncio.run(main())
    assert len(engine.images) == 1
    assert len(submits(engine)) == 32


def test_a_request_can_be_cancelled_while_its_image_does_not_get_through(model_dir):
    async def main():
        async with serving_to_one_that_looks(model_dir) as found:
            found.engine.image_failures = [grpc.StatusCode.UNAVAILABLE] * 3
            call = found.stub.Generate(request())
            await found.engine.until(lambda: len(found.engine.image_failures) < 3)
            call.cancel()
            await events_of(found.stub.Generate(request("plain", [])))
            await events_of(found.stub.Generate(request()))
            return found.engine

    engine = asyncio.run(main())
    assert [len(submit.spec.images) for submit in submits(engine)] == [1, 0, 1]
    assert engine.links[0].cancels == [1]
