"""Requests that outlive their calls: attaching, replay, linger; the engine is scripted."""

import asyncio
import contextlib
import gc

import grpc
import pytest

from support.scripted_engine import LENGTH
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import encode, events_of, failure_of_call, generate_request, serving
from tandem.engine.v1 import engine_pb2
from tandem.v1 import common_pb2, inference_pb2
from tandem_service.errors import DuplicateRequestError, OverloadedError, RequestCancelledError
from tandem_service.status import from_status
from tokenizer_service.running_request import RunningRequest

TEXT = "Grüße 🙂 the lazy dog, 東京 and naïve 👩‍👩‍👧 café"
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model_dir(tmp_path_factory.mktemp("small"), byte_level())


class Held:
    """A script that answers with the first half of TEXT, and with the rest once `go` is set.

    Each token's log-probability is minus its index.
    """

    def __init__(self):
        self.go = asyncio.Event()

    async def __call__(self, link, submit):
        tokens = encode(TEXT)
        half = len(tokens) // 2
        await self._send(link, submit, tokens[:half], 0, starts=True)
        await self.go.wait()
        await self._send(link, submit, tokens[half:], half, finish=LENGTH)

    async def _send(self, link, submit, tokens, first, **end):
        logprobs = [-float(first + i) for i in range(len(tokens))]
        column = engine_pb2.LogprobColumn(sequence=submit.sequence, logprobs=logprobs)
        columns = {"logprobs": [column]} if submit.spec.HasField("logprobs") else {}
        await link.step(submit.sequence, tokens, **end, **columns)


def named(request_id="mine", *, after=0, linger_s=0.0, **fields):
    request = generate_request(request_id=request_id, output={"token_ids": True, "logprobs": 0}, **fields)
    request.resume.after_tokens = after
    request.resume.linger.FromNanoseconds(round(linger_s * 1e9))
    return request


def text_of(events):
    return "".join(event.delta.text for event in events)


def ids_of(events):
    return [i for event in events for i in event.delta.token_ids]


def kinds(events):
    return [event.WhichOneof("event") for event in events]


async def started(call):
    """The first event of a call, which is to go on."""
    event = await anext(aiter(call))
    assert event.HasField("started")
    return event


async def within(waiting):
    return await asyncio.wait_for(waiting, TIMEOUT_S)


def run(model_dir, script, scenario, **flags):
    async def main():
        async with serving(model_dir, script, **flags) as found:
            return await within(scenario(found))

    return asyncio.run(main())


def test_two_calls_read_the_same_request(model_dir):
    script = Held()

    async def scenario(found):
        first = found.stub.Generate(named())
        await started(first)
        second = asyncio.create_task(events_of(found.stub.Generate(named())))
        many = found.stub.GenerateMany()
        await many.write(inference_pb2.GenerateManyRequest(generate=named()))
        third = [await started(many)]
        await many.done_writing()
        script.go.set()
        outcomes = [await events_of(first), await second, third + await events_of(many)]
        return outcomes, found.engine.links[0].commands

    (first, second, third), commands = run(model_dir, script, scenario)
    assert sum(len(each.submits) for each in commands) == 1
    for events in (first, second, third):
        assert text_of(events) == TEXT
        assert kinds(events)[-1] == "finished"
    assert {kinds(second)[0], kinds(third)[0]} == {"started"}


def test_every_replay_is_the_rest_of_the_answer(model_dir):
    script = Held()
    script.go.set()
    tokens = encode(TEXT)

    async def scenario(found):
        whole = await events_of(found.stub.Generate(named(linger_s=60)))
        replays = [
            await events_of(found.stub.Generate(named(after=count, linger_s=60)))
            for count in range(len(tokens) + 2)
        ]
        return whole, replays, found.engine.links[0].commands

    whole, replays, commands = run(model_dir, script, scenario)
    assert sum(len(each.submits) for each in commands) == 1
    assert text_of(whole) == TEXT
    for count, events in enumerate(replays):
        assert (kinds(events)[0], kinds(events)[-1]) == ("started", "finished")
        assert ids_of(events) == tokens[count:]
        logprobs = [entry.logprob for event in events for entry in event.delta.logprobs]
        assert logprobs == [-float(i) for i in range(count, len(tokens))]
        assert TEXT.endswith(text_of(events))
        # What the tokens before say, as far as they end characters, and the replay are the whole.
        before = byte_level().decode(tokens[:count])
        assert len(text_of(events)) >= len(TEXT) - len(before)
        assert events[-1].finished == whole[-1].finished
    texts = [text_of(events) for events in replays]
    assert sorted(texts, key=len, reverse=True) == texts


def test_a_replay_from_where_a_reader_was_cut_off_is_exact(model_dir):
    """The first reader has what a merged delta brought; whatever it was, the second gets the rest."""
    script = Held()

    async def scenario(found):
        call = found.stub.Generate(named(linger_s=60))
        events = [await started(call), await anext(aiter(call))]
        call.cancel()
        script.go.set()
        count = sum(event.delta.num_tokens for event in events)
        return events, await events_of(found.stub.Generate(named(after=count, linger_s=60)))

    first, rest = run(model_dir, script, scenario)
    assert text_of(first)
    assert text_of(first) + text_of(rest[1:]) == TEXT
    assert ids_of(first) + ids_of(rest) == encode(TEXT)


@pytest.mark.parametrize("call", ["Generate", "GenerateMany"])
def test_another_body_under_the_same_id_is_refused(model_dir, call):
    script = Held()

    async def scenario(found):
        running = found.stub.Generate(named())
        await started(running)
        other = named(stop={"max_tokens": 7})
        if call == "Generate":
            code, error = await failure_of_call(found.stub.Generate(other))
            assert code == grpc.StatusCode.ALREADY_EXISTS
        else:
            many = found.stub.GenerateMany()
            await many.write(inference_pb2.GenerateManyRequest(generate=other))
            error = from_status((await anext(aiter(many))).failed)
            many.cancel()
        script.go.set()
        return error, await events_of(running)

    error, events = run(model_dir, script, scenario)
    assert isinstance(error, DuplicateRequestError)
    assert "request_id: 'mine'" in error.message
    assert text_of(events) == TEXT


def test_an_id_is_free_again_when_its_request_has_ended(model_dir):
    script = Held()
    script.go.set()

    async def scenario(found):
        await events_of(found.stub.Generate(named()))
        return await events_of(found.stub.Generate(named(stop={"max_tokens": 100})))

    assert text_of(run(model_dir, script, scenario)) == TEXT


@pytest.mark.parametrize("call", ["Generate", "GenerateMany"])
def test_a_request_with_linger_runs_on_without_a_reader(model_dir, call):
    script = Held()

    async def scenario(found):
        request = named(linger_s=60, stop={"strings": ["café"]})
        if call == "Generate":
            running = found.stub.Generate(request)
        else:
            running = found.stub.GenerateMany()
            await running.write(inference_pb2.GenerateManyRequest(generate=request))
        await started(running)
        running.cancel()
        link = found.engine.links[0]
        assert not link.cancels
        script.go.set()
        # The stop string is found while nobody reads.
        await link.until(lambda: bool(link.stops or link.cancels))
        return await events_of(found.stub.Generate(request)), link

    # The rest of the answer comes without its end, so that only the stop string ends it.
    script._send = endless(script._send)
    events, link = run(model_dir, script, scenario)
    assert text_of(events) == TEXT.removesuffix("café")
    assert events[-1].finished.reason == common_pb2.FINISH_REASON_STOP_STRING
    assert (len(link.stops), link.cancels) == (1, [])


def endless(send):
    async def send_without_end(*args, finish=None, **columns):
        await send(*args, **columns)

    return send_without_end


def test_without_linger_the_last_reader_that_leaves_ends_the_request(model_dir):
    script = Held()

    async def scenario(found):
        calls = [found.stub.Generate(named()) for _ in range(2)]
        for call in calls:
            await started(call)
        calls[0].cancel()
        other = found.stub.Generate(named())
        await started(other)
        link = found.engine.links[0]
        assert not link.cancels
        calls[1].cancel()
        other.cancel()
        await link.until(lambda: bool(link.cancels))
        return link.cancels

    assert run(model_dir, script, scenario) == [1]


def test_a_linger_that_is_over_ends_the_request_in_the_engine(model_dir):
    script = Held()

    async def scenario(found):
        call = found.stub.Generate(named(linger_s=0.2))
        await started(call)
        call.cancel()
        link = found.engine.links[0]
        await link.until(lambda: bool(link.cancels))
        again = found.stub.Generate(named())
        await started(again)
        await link.until(lambda: sum(len(each.submits) for each in link.commands) == 2)
        again.cancel()
        return link.cancels[0]

    assert run(model_dir, script, scenario) == 1


def test_a_request_that_fails_while_it_lingers_is_not_held_until_its_linger_is_over(model_dir):
    async def script(link, submit):
        await link.step(submit.sequence, starts=True)
        if submit.sequence == 1:
            await left.wait()
            await link.step(submit.sequence, finish=common_pb2.FINISH_REASON_ERROR)

    async def scenario(found):
        first = found.stub.Generate(named(linger_s=60))
        await started(first)
        first.cancel()
        left.set()
        commands = found.engine.links[0].commands
        while sum(len(each.submits) for each in commands) == 1:
            again = found.stub.Generate(named(linger_s=60))
            with contextlib.suppress(grpc.aio.AioRpcError):
                await started(again)
        gc.collect()
        alive = [each for each in gc.get_objects() if type(each) is RunningRequest]
        again.cancel()
        return len(alive)

    left = asyncio.Event()
    assert run(model_dir, script, scenario) == 1


def test_a_finished_answer_is_kept_for_its_linger(model_dir):
    script = Held()
    script.go.set()

    async def scenario(found):
        first = await events_of(found.stub.Generate(named(linger_s=0.5)))
        kept = await events_of(found.stub.Generate(named(linger_s=0.5)))
        commands = found.engine.links[0].commands
        assert sum(len(each.submits) for each in commands) == 1
        while sum(len(each.submits) for each in commands) == 1:
            await asyncio.sleep(0.6)
            anew = await events_of(found.stub.Generate(named()))
        return first, kept, anew

    for events in run(model_dir, script, scenario):
        assert text_of(events) == TEXT


def test_cancel_ends_a_request_with_linger_for_all_its_readers(model_dir):
    script = Held()

    async def scenario(found):
        other = found.stub.Generate(named(linger_s=60))
        await started(other)
        many = found.stub.GenerateMany()
        await many.write(inference_pb2.GenerateManyRequest(generate=named(linger_s=60)))
        await started(many)
        await many.write(inference_pb2.GenerateManyRequest(cancel={"request_id": "mine"}))
        failed = [event async for event in until_failed(many)][-1].failed
        code, _ = await failure_of_call(other)
        link = found.engine.links[0]
        await link.until(lambda: bool(link.cancels))
        return from_status(failed), code, link.cancels

    failed, code, cancels = run(model_dir, script, scenario)
    assert isinstance(failed, RequestCancelledError)
    assert code == grpc.StatusCode.CANCELLED
    assert cancels == [1]


async def until_failed(call):
    async for event in call:
        yield event
        if event.HasField("failed"):
            call.cancel()
            return


def test_more_requests_with_linger_than_there_are_places_are_refused(model_dir):
    script = Held()

    async def scenario(found):
        first = found.stub.Generate(named("first", linger_s=60))
        await started(first)
        plain = found.stub.Generate(named("second"))
        await started(plain)
        refused = [
            await failure_of_call(found.stub.Generate(named(name, linger_s=60)))
            for name in ("third", "second")
        ]
        again = found.stub.Generate(named("first", linger_s=60))
        await started(again)
        for call in (first, plain, again):
            call.cancel()
        return refused

    for code, error in run(model_dir, script, scenario, max_lingering=1):
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert isinstance(error, OverloadedError)
        assert "max_lingering=1" in error.message
        assert error.retry_delay_s


def test_the_rest_of_an_unknown_answer_is_drawn_again_only_if_it_is_the_same(model_dir):
    script = Held()
    script.go.set()

    async def scenario(found):
        seeded = await events_of(found.stub.Generate(named(after=3, sampling={"seed": 1})))
        greedy = await events_of(found.stub.Generate(named(after=3, sampling={"temperature": 0})))
        return seeded, greedy, await failure_of_call(found.stub.Generate(named(after=3)))

    seeded, greedy, (code, error) = run(model_dir, script, scenario)
    assert ids_of(seeded) == ids_of(greedy) == encode(TEXT)[3:]
    assert code == grpc.StatusCode.NOT_FOUND
    assert [each.field for each in error.violations] == ["resume.after_tokens"]


def test_a_wrong_linger_is_refused_where_the_request_runs(model_dir):
    script = Held()

    async def scenario(found):
        running = found.stub.Generate(named())
        await started(running)
        refused = await failure_of_call(found.stub.Generate(named(linger_s=11)))
        running.cancel()
        return refused

    code, error = run(model_dir, script, scenario, max_linger_s=10.0)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert [each.field for each in error.violations] == ["resume.linger"]
