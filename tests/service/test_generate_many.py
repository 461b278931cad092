"""Many requests on one stream, in front of an engine whose answers are scripted."""

import asyncio

import pytest

from support.scripted_engine import LENGTH
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import encode, generate_request, serving
from tandem.engine.v1 import engine_pb2
from tandem.v1 import inference_pb2
from tandem_service.errors import (
    DuplicateRequestError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    RequestCancelledError,
)
from tandem_service.status import from_status
from tokenizer_service import server
from tokenizer_service.request_conversion import from_request


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model_dir(tmp_path_factory.mktemp("small"), byte_level())


async def dog(link, submit):
    """Answers "dog" to every prompt but one that begins with "lazy": that one never ends."""
    await link.step(submit.sequence, encode("dog"), starts=True)
    if list(submit.spec.token_ids[:1]) != encode("lazy")[:1]:
        await link.step(submit.sequence, finish=LENGTH)


def start(request_id, prompt="the quick fox", **fields):
    request = generate_request(prompt, request_id=request_id, **fields)
    return inference_pb2.GenerateManyRequest(generate=request)


def cancel(request_id):
    return inference_pb2.GenerateManyRequest(cancel={"request_id": request_id})


async def send(call, *commands):
    for command in commands:
        await call.write(command)


async def rest_of(call):
    """What is still to come, after the client has said its last word."""
    await call.done_writing()
    return [event async for event in call]


def failure(events, request_id):
    (failed,) = [e.failed for e in events if e.request_id == request_id and e.HasField("failed")]
    return from_status(failed)


def test_each_request_gets_its_own_events_after_the_client_has_sent_all(model_dir):
    names = [f"r{i}" for i in range(50)]

    async def main():
        async with serving(model_dir, dog) as found:
            call = found.stub.GenerateMany()
            await send(call, *(start(name) for name in names))
            return await rest_of(call)

    events = asyncio.run(main())
    for name in names:
        mine = [event for event in events if event.request_id == name]
        assert mine[0].HasField("started")
        assert mine[-1].HasField("finished")
        assert "".join(event.delta.text for event in mine) == "dog"
    assert {event.request_id for event in events} == set(names)


def test_a_bad_request_fails_alone(model_dir):
    async def main():
        async with serving(model_dir, dog) as found:
            call = found.stub.GenerateMany()
            await send(call, start("bad", n=0), start("good"), start(""))
            return await rest_of(call)

    events = asyncio.run(main())
    assert [each.field for each in failure(events, "bad").violations] == ["n"]
    assert [each.field for each in failure(events, "").violations] == ["request_id"]
    assert isinstance(failure(events, ""), InvalidRequestError)
    assert [event for event in events if event.request_id == "good"][-1].HasField("finished")


def test_a_request_that_cannot_be_converted_fails_alone(model_dir, monkeypatch):
    def converted(message, origin):
        if message.request_id == "fault":
            raise ArithmeticError("a fault of ours")
        return from_request(message, origin)

    monkeypatch.setattr(server, "from_request", converted)
    nan = {"chat": {"template_variables": {"x": float("nan")}}}

    async def main():
        async with serving(model_dir, dog) as found:
            call = found.stub.GenerateMany()
            await send(
                call, start("before", "lazy"), start("nan", None, **nan), start("fault"), start("after")
            )
            await send(call, cancel("before"))
            return await rest_of(call)

    events = asyncio.run(main())
    assert [each.field for each in failure(events, "nan").violations] == ["chat.template_variables.x"]
    assert isinstance(failure(events, "fault"), InternalError)
    assert isinstance(failure(events, "before"), RequestCancelledError)
    assert [event for event in events if event.request_id == "after"][-1].HasField("finished")


def test_a_request_with_too_much_of_something_fails_alone(model_dir):
    messages = {"chat": {"messages": [{}] * 4097}}

    async def main():
        async with serving(model_dir, dog) as found:
            call = found.stub.GenerateMany()
            await send(call, start("big", None, **messages), start("after"))
            return await rest_of(call)

    events = asyncio.run(main())
    assert failure(events, "big").message == "chat.messages: 4097 messages; at most 4096"
    assert [event for event in events if event.request_id == "after"][-1].HasField("finished")


def test_an_id_in_use_is_refused_and_a_used_one_is_free_again(model_dir):
    async def main():
        async with serving(model_dir, dog) as found:
            call = found.stub.GenerateMany()
            await send(call, start("a", "lazy"), start("a"))
            events = [await anext(stream) for stream in [aiter(call)] for _ in range(3)]
            await send(call, cancel("a"))
            while not (events[-1].HasField("failed") and events[-1].failed.code == 1):
                events.append(await anext(aiter(call)))
            await send(call, start("a"))
            return events, await rest_of(call)

    events, later = asyncio.run(main())
    failures = [from_status(event.failed) for event in events if event.HasField("failed")]
    assert [type(each) for each in failures] == [DuplicateRequestError, RequestCancelledError]
    assert later[-1].HasField("finished")


def test_a_cancelled_request_ends_in_the_engine_and_leaves_the_others(model_dir):
    async def main():
        async with serving(model_dir, dog) as found:
            call = found.stub.GenerateMany()
            await send(call, start("endless", "lazy"))
            events = [await anext(aiter(call))]
            await send(call, cancel("endless"), cancel("unknown"), start("other"))
            events += await rest_of(call)
            link = found.engine.links[0]
            await link.until(lambda: bool(link.cancels))
            return events, link.cancels

    events, cancels = asyncio.run(main())
    assert isinstance(failure(events, "endless"), RequestCancelledError)
    assert [event for event in events if event.request_id == "other"][-1].HasField("finished")
    assert cancels == [1]


def test_a_client_that_goes_away_cancels_everything(model_dir):
    async def main():
        async with serving(model_dir, dog) as found:
            call = found.stub.GenerateMany()
            await send(call, *(start(f"r{i}", "lazy") for i in range(5)))
            await anext(aiter(call))
            link = found.engine.links[0]
            await link.until(lambda: sum(len(each.submits) for each in link.commands) == 5)
            call.cancel()
            await link.until(lambda: len(link.cancels) == 5)
            return sorted(link.cancels)

    assert asyncio.run(main()) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("bound", ["max_requests", "max_requests_per_stream"])
def test_more_requests_than_there_are_places_are_refused(model_dir, bound):
    async def main():
        async with serving(model_dir, dog, **{bound: 2}) as found:
            call = found.stub.GenerateMany()
            await send(call, *(start(name, "lazy") for name in "abc"))
            async for event in call:
                if event.HasField("failed"):
                    call.cancel()
                    return event
            return None

    event = asyncio.run(main())
    assert event.request_id == "c"
    error = from_status(event.failed)
    assert isinstance(error, OverloadedError)
    assert error.retry_delay_s


def test_text_that_is_not_utf8_ends_the_stream_with_the_field(model_dir):
    data = start("a", "????").SerializeToString().replace(b"????", b"a\xff\xfeb")

    async def main():
        async with serving(model_dir, dog) as found:
            call = found.channel.stream_stream("/tandem.v1.Inference/GenerateMany")()
            await call.write(data)
            return await call.code(), await call.details()

    code, details = asyncio.run(main())
    assert code.name == "INVALID_ARGUMENT"
    assert "generate.prompt" in details


def test_an_answer_larger_than_any_request_comes_whole_and_leaves_the_others_alone(model_dir):
    num_tokens, num_candidates = 200, 20

    async def script(link, submit):
        columns = {}
        if submit.spec.HasField("logprobs"):
            columns["logprobs"] = [
                engine_pb2.LogprobColumn(
                    sequence=submit.sequence,
                    logprobs=[-1.0] * num_tokens,
                    num_candidates=num_candidates,
                    candidate_tokens=[10] * num_tokens * num_candidates,
                    candidate_logprobs=[-1.0] * num_tokens * num_candidates,
                )
            ]
        await link.step(submit.sequence, [10] * num_tokens, starts=True, finish=LENGTH, **columns)

    async def main():
        async with serving(model_dir, script, max_request_bytes=16_384) as found:
            call = found.stub.GenerateMany()
            await send(call, start("large", output={"logprobs": num_candidates}), start("small"))
            return await rest_of(call)

    events = asyncio.run(main())
    (large,) = [e for e in events if e.request_id == "large" and e.HasField("delta")]
    assert len(large.delta.logprobs) == num_tokens
    assert large.ByteSize() > 16_384
    assert sorted(e.request_id for e in events if e.HasField("finished")) == ["large", "small"]
