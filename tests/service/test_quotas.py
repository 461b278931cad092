"""Quotas of a token, as its client meets them."""

import asyncio

import pytest

import tandem
from support.scripted_engine import LENGTH
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import encode, events_of, failure_of_call, generate_request, serving
from support.tokens import TOKEN, write_tokens
from tandem.v1 import inference_pb2
from tandem_service.access import bearer

WAIT_S = 10
WITH_TOKEN = bearer(TOKEN)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model_dir(tmp_path_factory.mktemp("small"), byte_level(), "x")


async def dog(link, submit):
    await link.step(submit.sequence, encode("dog"), starts=True, finish=LENGTH)


def quota_error(error):
    """Its words, where it says when to try again."""
    assert isinstance(error, tandem.OverloadedError)
    assert error.retry_delay_s > 0
    return error.message


def test_each_request_of_a_stream_counts(model_dir, tmp_path):
    async def main():
        tokens = write_tokens(tmp_path / "tokens.toml", requests_per_minute=3)
        async with (
            serving(model_dir, dog, tokens=tokens) as found,
            tandem.AsyncClient(found.address, token=TOKEN, retries=0) as client,
        ):
            await client.generate("one")
            return [result async for result in client.generate_many(["two", "three", "four", "five"])]

    results = asyncio.run(main())
    errors = [result.error for result in results if result.error]
    assert len(errors) == 2
    assert all(quota_error(each).startswith("quota requests_per_minute=3 of 'reports'") for each in errors)


def test_tokens_of_prompt_and_answer_count(model_dir, tmp_path):
    prompt, answer = encode("the quick fox"), encode("dog")

    async def main():
        used = len(prompt) + len(answer)
        tokens = write_tokens(tmp_path / "tokens.toml", tokens_per_minute=used + 1)
        async with (
            serving(model_dir, dog, tokens=tokens) as found,
            tandem.AsyncClient(found.address, token=TOKEN, retries=0) as client,
        ):
            await client.generate("the quick fox")
            await client.generate("the quick fox")
            with pytest.raises(tandem.OverloadedError) as caught:
                await client.tokenize("the quick fox")
            return caught.value, used

    error, used = asyncio.run(main())
    assert f"quota tokens_per_minute={used + 1} of 'reports'" in quota_error(error)
    assert error.retry_delay_s == pytest.approx(60 * used / (used + 1), rel=0.2)


def pausing(may_finish):
    """An engine's script that gives half of an answer, and the rest when it may."""

    async def script(link, submit):
        await link.step(submit.sequence, encode("dog"), starts=True)
        await may_finish.wait()
        await link.step(submit.sequence, encode("dog"), finish=LENGTH)

    return script


def test_a_request_that_ends_makes_room_for_the_next(model_dir, tmp_path):
    may_finish = asyncio.Event()
    script = pausing(may_finish)

    async def main():
        tokens = write_tokens(tmp_path / "tokens.toml", concurrent_requests=1)
        async with (
            serving(model_dir, script, tokens=tokens) as found,
            tandem.AsyncClient(found.address, token=TOKEN, retries=0, generate_timeout=WAIT_S) as client,
        ):
            events = aiter(client.stream("one"))
            await anext(events)
            with pytest.raises(tandem.OverloadedError) as caught:
                await client.generate("two")
            may_finish.set()
            async for _ in events:
                pass
            return caught.value, (await client.generate("three")).text

    error, text = asyncio.run(main())
    assert quota_error(error) == "quota concurrent_requests=1 of 'reports': 1 requests run already"
    assert text == "dogdog"


def lingering(request_id, **fields):
    return generate_request(request_id=request_id, resume={"linger": {"seconds": 60}}, **fields)


async def leave(call):
    """Reads the first event of a call, and cancels it."""
    await started(call)
    call.cancel()


async def started(call):
    """Reads the first event of a call."""
    assert (await anext(aiter(call))).HasField("started")


def test_a_request_without_a_reader_keeps_its_place_until_its_answer_is_whole(model_dir, tmp_path):
    may_finish = asyncio.Event()
    script = pausing(may_finish)

    async def main():
        tokens = write_tokens(tmp_path / "tokens.toml", concurrent_requests=1)
        async with serving(model_dir, script, tokens=tokens) as found:

            def generate(request_id):
                return found.stub.Generate(lingering(request_id), metadata=WITH_TOKEN, timeout=WAIT_S)

            await leave(generate("first"))
            refusals = [await failure_of_call(generate("second"))]
            attached = generate("first")
            await started(attached)
            refusals.append(await failure_of_call(generate("second")))
            may_finish.set()
            await events_of(attached)
            # The first answer is kept from now on, and runs no more.
            return refusals, await events_of(generate("second"))

    refusals, events = asyncio.run(main())
    for _, error in refusals:
        assert error.message == "quota concurrent_requests=1 of 'reports': 1 requests run already"
        assert error.retry_delay_s
    assert events[-1].HasField("finished")


def test_tokens_count_once_and_also_those_that_nobody_reads(model_dir, tmp_path):
    prompt, answer = encode("the quick fox"), encode("the lazy dog sleeps")
    request = lingering("mine", stop={"strings": ["sleeps"]})
    has_left = asyncio.Event()

    async def script(link, submit):
        await link.step(submit.sequence, starts=True)
        await has_left.wait()
        await link.step(submit.sequence, answer)

    async def main():
        tokens = write_tokens(tmp_path / "tokens.toml", tokens_per_minute=1)
        async with serving(model_dir, script, tokens=tokens) as found:
            await leave(found.stub.Generate(request, metadata=WITH_TOKEN))
            has_left.set()
            link = found.engine.links[0]
            # The stop string is found while nobody reads.
            await link.until(lambda: bool(link.stops))
            refusals = []
            for _ in range(2):
                asked = inference_pb2.TokenizeRequest(prompt="dog")
                refusals.append(await failure_of_call(found.stub.Tokenize(asked, metadata=WITH_TOKEN)))
                await events_of(found.stub.Generate(request, metadata=WITH_TOKEN))
            return refusals

    used = len(prompt) + len(answer)
    for _, error in asyncio.run(main()):
        assert "quota tokens_per_minute=1 of 'reports'" in error.message
        # A token refills in a minute.
        assert error.retry_delay_s == pytest.approx(60 * used, abs=60)


def test_a_call_that_attaches_counts_against_the_requests_of_a_minute(model_dir, tmp_path):
    async def main():
        tokens = write_tokens(tmp_path / "tokens.toml", requests_per_minute=2)
        async with serving(model_dir, dog, tokens=tokens) as found:

            def generate():
                return found.stub.Generate(lingering("mine"), metadata=WITH_TOKEN)

            for _ in range(2):
                await events_of(generate())
            return await failure_of_call(generate())

    _, error = asyncio.run(main())
    assert error.message.startswith("quota requests_per_minute=2 of 'reports': used up")
