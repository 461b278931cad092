"""The tokenizer service's session with its engine: batches, losses, refusals; the engine is scripted."""

import asyncio

import grpc
import pytest

from support.scripted_engine import LENGTH, running_engine
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import (
    encode,
    events_of,
    failure_of_call,
    failure_of_error,
    generate_request,
    serving,
)
from tandem.engine.v1 import engine_pb2
from tandem.v1 import common_pb2, inference_pb2
from tandem_service.errors import ErrorInfo, OverloadedError
from tandem_service.status import to_status


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model_dir(tmp_path_factory.mktemp("small"), byte_level())


async def dog(link, submit):
    await link.step(submit.sequence, encode("dog"), starts=True, finish=LENGTH)


async def silent(link, submit):
    """A script that never answers."""


def text_of(events):
    return "".join(event.delta.text for event in events)


def test_what_waits_goes_to_the_engine_in_one_message(model_dir):
    async def main():
        async with serving(model_dir, dog) as found:
            await events_of(found.stub.Generate(generate_request(n=64)))
            return [len(command.submits) for command in found.engine.links[0].commands]

    assert asyncio.run(main()) == [64]


def test_the_engine_learns_whose_request_it_is_and_when_its_first_token_must_be_there(model_dir):
    async def main():
        async with serving(model_dir, dog) as found:
            request = generate_request(request_id="mine", first_token_timeout={"seconds": 5})
            await events_of(found.stub.Generate(request))
            await events_of(found.stub.Generate(generate_request()))
            commands = iter([inference_pb2.GenerateManyRequest(generate=request)])
            await events_of(found.stub.GenerateMany(commands))
            return [submit.spec for command in found.engine.links[0].commands for submit in command.submits]

    one, unnamed, many = asyncio.run(main())
    assert {one.client, unnamed.client, many.client} == {"127.0.0.1"}
    assert (one.request_id, many.request_id) == ("mine", "mine")
    assert len(unnamed.request_id) == 32
    assert 0 < one.first_token_timeout_ms <= 5000
    assert 0 < many.first_token_timeout_ms <= 5000
    assert not unnamed.HasField("first_token_timeout_ms")


class TwoLives:
    """A script that answers LOST of the words in its first life, and the rest, or all, in its second.

    Attributes:
        specs: What was asked in each life, by sequence.
    """

    LOST = "the quick"
    WORDS = "the quick brown fox"

    def __init__(self):
        self.specs = [{}]

    async def __call__(self, link, submit):
        self.specs[-1][submit.sequence] = submit.spec
        tokens = encode(self.WORDS)
        if len(self.specs) > 1:
            rest = tokens[len(submit.spec.output_token_ids) :]
            await link.step(submit.sequence, rest, starts=True, finish=LENGTH)
        elif submit.sequence == 1:
            await link.step(submit.sequence, encode(self.LOST), starts=True)


async def lose_and_revive(found, script, read_first, model="scripted", **fields):
    """Two requests, of which the first has shown something; the engine ends and comes back.

    Returns the first one's first events, and both outcomes.
    """
    async with running_engine(found.engine, found.engine_address):
        await found.until_health(1)
        shown = found.stub.Generate(generate_request(**fields))
        first = [await anext(aiter(shown)) for _ in range(read_first)]
        hidden = found.stub.Generate(generate_request())
        link = found.engine.links[0]
        await link.until(lambda: sum(len(each.submits) for each in link.commands) == 2)
    await found.until_health(2)
    refused = await failure_of_call(found.stub.Generate(generate_request()))
    script.specs.append({})
    found.engine.model = model
    async with running_engine(found.engine, found.engine_address):
        outcomes = [await outcome_of_call(call) for call in (shown, hidden)]
    return first, refused, *outcomes


async def outcome_of_call(call):
    try:
        return await events_of(call)
    except grpc.aio.AioRpcError as error:
        return failure_of_error(error)


def test_an_engine_that_comes_back_goes_on_behind_what_arrived(model_dir):
    script = TwoLives()

    async def main():
        async with serving(model_dir, script, with_engine=False) as found:
            output = {"prompt_logprobs": 0, "token_ids": True}
            return await lose_and_revive(found, script, 2, request_id="mine", output=output)

    first, refused, shown, hidden = asyncio.run(main())
    assert [event.WhichOneof("event") for event in first + shown] == ["started", "delta", "delta", "finished"]
    assert text_of(first) == TwoLives.LOST
    assert text_of(first + shown) == TwoLives.WORDS
    assert [i for event in first + shown for i in event.delta.token_ids] == encode(TwoLives.WORDS)
    assert shown[-1].finished.usage.completion_tokens == len(encode(TwoLives.WORDS))
    before, after = (life[1] for life in script.specs)
    assert (before.HasField("prompt_logprobs"), after.HasField("prompt_logprobs")) == (True, False)
    assert list(after.output_token_ids) == encode(TwoLives.LOST)
    assert after.sampling.seed == before.sampling.seed
    assert text_of(hidden) == TwoLives.WORDS
    assert not script.specs[1][2].output_token_ids
    code, error = refused
    assert code == grpc.StatusCode.UNAVAILABLE
    assert error.info.reason == "ENGINE_LOST"


async def see_an_engine_come_and_go(found):
    async with running_engine(found.engine, found.engine_address):
        await found.until_health(1)
    await found.until_health(2)


def test_a_request_between_two_sessions_waits_for_the_second(model_dir):
    async def main():
        async with serving(model_dir, dog, with_engine=False) as found:
            await see_an_engine_come_and_go(found)
            between = found.stub.Generate(generate_request())
            # The service answers this after the other has come.
            await found.stub.ListModels(inference_pb2.ListModelsRequest())
            async with running_engine(found.engine, found.engine_address):
                return await events_of(between)

    assert asyncio.run(main())[-1].HasField("finished")


def test_that_wait_is_no_longer_than_a_first_token_may_take(model_dir):
    async def main():
        async with serving(model_dir, dog, with_engine=False) as found:
            await see_an_engine_come_and_go(found)
            hurried = generate_request(first_token_timeout={"nanos": 100_000_000})
            requests = (generate_request(), hurried)
            calls = [
                asyncio.create_task(failure_of_call(found.stub.Generate(request))) for request in requests
            ]
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            return [call.done() for call in calls], await calls[1]

    are_over, (code, _) = asyncio.run(main())
    assert are_over == [False, True]
    assert code == grpc.StatusCode.UNAVAILABLE


def test_another_model_does_not_go_on_with_what_was_shown(model_dir):
    script = TwoLives()

    async def main():
        async with serving(model_dir, script, with_engine=False) as found:
            return await lose_and_revive(found, script, 2, model="another", request_id="mine")

    _, _, (code, error), hidden = asyncio.run(main())
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "another model" in error.message
    assert error.retry_delay_s
    num_tokens = str(len(encode(TwoLives.LOST)))
    assert error.info == ErrorInfo("ENGINE_LOST", {"request_id": "mine", "num_tokens": num_tokens})
    assert text_of(hidden) == TwoLives.WORDS


def test_a_request_that_takes_every_engine_down_is_given_up(model_dir):
    submitted = []

    async def script(link, submit):
        submitted.append(list(submit.spec.output_token_ids))
        await link.step(submit.sequence, encode("dog")[:1], starts=True)
        raise ConnectionError("this engine dies")

    async def main():
        async with serving(model_dir, script) as found:
            return await failure_of_call(found.stub.Generate(generate_request()))

    code, error = asyncio.run(main())
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "lost 4 times" in error.message
    assert error.info.metadata["num_tokens"] == "4"
    assert [len(each) for each in submitted] == [0, 1, 2, 3]


def test_what_waits_for_a_lost_engine_gives_up_in_time(model_dir):
    async def main():
        async with serving(model_dir, silent, with_engine=False, engine_timeout_s=0.1) as found:
            async with running_engine(found.engine, found.engine_address):
                await found.until_health(1)
                waiting = found.stub.Generate(generate_request())
                link = found.engine.links[0]
                await link.until(lambda: bool(link.commands))
            return await failure_of_call(waiting)

    code, error = asyncio.run(main())
    assert code == grpc.StatusCode.UNAVAILABLE
    assert "0.1 s" in error.message


def test_a_first_token_timeout_passes_also_while_the_engine_is_away(model_dir):
    async def script(link, submit):
        if submit.spec.request_id == "has-begun":
            await link.step(submit.sequence, encode("dog"), starts=True)

    async def main():
        async with serving(model_dir, script, with_engine=False, engine_timeout_s=30.0) as found:
            async with running_engine(found.engine, found.engine_address):
                await found.until_health(1)
                begun, waiting = (
                    found.stub.Generate(
                        generate_request(request_id=name, first_token_timeout={"nanos": 300_000_000})
                    )
                    for name in ("has-begun", "waits")
                )
                await anext(aiter(begun))
                link = found.engine.links[0]
                await link.until(lambda: sum(len(each.submits) for each in link.commands) == 2)
            outcome = await failure_of_call(waiting)
            found.engine.script = dog
            async with running_engine(found.engine, found.engine_address):
                return outcome, await events_of(begun)

    (code, error), rest = asyncio.run(main())
    assert code == grpc.StatusCode.DEADLINE_EXCEEDED
    assert "first_token_timeout" in error.message
    assert rest[-1].HasField("finished")


def test_a_rejection_reaches_the_client_with_its_details(model_dir):
    async def script(link, submit):
        status = to_status(OverloadedError("the queue is full", retry_delay_s=2.5))
        rejected = engine_pb2.Rejected(sequence=submit.sequence, status=status)
        await link.send(engine_pb2.SessionResponse(rejected=rejected))

    async def main():
        async with serving(model_dir, script) as found:
            return await failure_of_call(found.stub.Generate(generate_request()))

    code, error = asyncio.run(main())
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (error.message, error.retry_delay_s) == ("the queue is full", 2.5)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (common_pb2.FINISH_REASON_ERROR, grpc.StatusCode.INTERNAL),
        (common_pb2.FINISH_REASON_DEADLINE, grpc.StatusCode.DEADLINE_EXCEEDED),
        (common_pb2.FINISH_REASON_CANCELLED, grpc.StatusCode.UNAVAILABLE),
    ],
    ids=["error", "deadline", "engine-cancelled"],
)
def test_an_engines_failure_is_the_requests_status(model_dir, reason, code):
    async def script(link, submit):
        await link.step(submit.sequence, encode("dog"), starts=True)
        await link.step(submit.sequence, finish=reason)

    async def main():
        async with serving(model_dir, script) as found:
            return (await failure_of_call(found.stub.Generate(generate_request())))[0]

    assert asyncio.run(main()) == code
