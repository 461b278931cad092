"""Quotas of a token, as its client meets them."""

import asyncio

import pytest

import tandem
from support.scripted_engine import LENGTH
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import encode, serving
from support.tokens import TOKEN, write_tokens

WAIT_S = 10


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


def test_a_request_that_ends_makes_room_for_the_next(model_dir, tmp_path):
    may_finish = asyncio.Event()

    async def script(link, submit):
        await link.step(submit.sequence, encode("dog"), starts=True)
        await may_finish.wait()
        await link.step(submit.sequence, encode("dog"), finish=LENGTH)

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
