"""The tokenizer service through gRPC on localhost, in front of an engine whose answers are scripted."""

import asyncio

import grpc
import pytest

from support.scripted_engine import EOS, LENGTH, STOP_TOKEN
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import (
    VOCAB_SIZE,
    encode,
    events_of,
    failure_of_call,
    generate_request,
    serving,
)
from tandem.engine.v1 import engine_pb2
from tandem.v1 import common_pb2, inference_pb2, inference_pb2_grpc
from tokenizer_service.transcript import MAX_TOKENS_OF_A_DELTA

TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "<|user|>{{ message.content }}</s>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
END = byte_level().token_to_id("</s>")


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model_dir(tmp_path_factory.mktemp("small"), byte_level(), TEMPLATE)


def answering(text, reason=LENGTH):
    """A script that answers with a text, one token a step."""

    async def script(link, submit):
        tokens = encode(text) + ([END] if reason != LENGTH else [])
        await link.step(submit.sequence, tokens[:1], starts=True)
        for token in tokens[1:-1]:
            await link.step(submit.sequence, [token])
        await link.step(submit.sequence, tokens[-1:], finish=reason)

    return script


async def silent(link, submit):
    """A script that never answers."""


def kinds(events):
    return [event.WhichOneof("event") for event in events]


def text_of(events):
    return "".join(event.delta.text for event in events)


def test_events_come_in_order_and_say_what_was_used(model_dir):
    async def main():
        async with serving(model_dir, answering("a lazy dog")) as found:
            request = generate_request(request_id="mine", output={"echo": True, "token_ids": True})
            return await events_of(found.stub.Generate(request))

    events = asyncio.run(main())
    prompt = encode("the quick fox")
    assert kinds(events)[0] == "started"
    assert kinds(events)[-1] == "finished"
    assert set(kinds(events)[1:-1]) == {"delta"}
    assert {event.request_id for event in events} == {"mine"}
    assert events[0].started.prompt == "the quick fox"
    assert list(events[0].started.prompt_token_ids) == prompt
    assert text_of(events) == "a lazy dog"
    assert [i for event in events for i in event.delta.token_ids] == encode("a lazy dog")
    end = events[-1].finished
    assert end.reason == LENGTH
    assert (end.usage.prompt_tokens, end.usage.cached_tokens) == (len(prompt), 2)
    assert end.usage.completion_tokens == len(encode("a lazy dog"))
    assert (end.timings.queue_ms, end.timings.prefill_ms) == (3.0, 4.0)


def _beginning(is_known):
    """Computes the prompt until the client is known to have Started."""

    async def script(link, submit):
        await link.step(submit.sequence, begun_sequences=[submit.sequence], begun_cached_tokens=[2])
        await is_known.wait()
        await link.step(submit.sequence, encode("dog"), starts=True, finish=LENGTH)

    return script


def test_started_comes_while_the_prompt_is_computed_and_only_once(model_dir):
    async def main():
        is_known = asyncio.Event()
        events = []
        async with serving(model_dir, _beginning(is_known)) as found:
            async for event in found.stub.Generate(generate_request(), timeout=60):
                events.append(event)
                is_known.set()
        return events

    events = asyncio.run(main())
    assert kinds(events) == ["started", "delta", "finished"]
    assert events[0].started.cached_tokens == events[-1].finished.usage.cached_tokens == 2


@pytest.mark.parametrize(
    ("reason", "include_stop", "num_in_deltas"),
    [(EOS, False, 3), (STOP_TOKEN, False, 3), (STOP_TOKEN, True, 4)],
    ids=["eos", "stop-token", "stop-token-included"],
)
def test_the_ending_token_is_counted_once(model_dir, reason, include_stop, num_in_deltas):
    text = "dog"

    async def main():
        async with serving(model_dir, answering(text, reason)) as found:
            request = generate_request(stop={"include_stop": include_stop}, output={"token_ids": True})
            return await events_of(found.stub.Generate(request))

    events = asyncio.run(main())
    extra = num_in_deltas - 3
    ids = encode(text) + [END] * extra
    assert [i for event in events for i in event.delta.token_ids] == ids
    assert sum(event.delta.num_tokens for event in events) == len(ids)
    end = events[-1].finished
    assert (end.reason, end.stop_token_id) == (reason, END)
    assert end.usage.completion_tokens == len(encode(text)) + 1
    assert text_of(events) == text


@pytest.mark.parametrize(("include_stop", "text"), [(False, "the lazy "), (True, "the lazy dog")])
def test_a_stop_string_ends_text_ids_logprobs_and_usage_together(model_dir, include_stop, text):
    answer = encode("the lazy dog sleeps and sleeps")

    async def script(link, submit):
        assert submit.spec.logprobs == 1
        for i, token in enumerate(answer):
            column = engine_pb2.LogprobColumn(
                sequence=submit.sequence,
                logprobs=[-i],
                num_candidates=1,
                candidate_tokens=[token],
                candidate_logprobs=[-i],
            )
            await link.step(submit.sequence, [token], starts=i == 0, logprobs=[column])

    async def main():
        async with serving(model_dir, script) as found:
            request = generate_request(
                stop={"strings": ["og", "dog"], "include_stop": include_stop},
                output={"token_ids": True, "logprobs": 1},
            )
            events = await events_of(found.stub.Generate(request))
            link = found.engine.links[0]
            await link.until(lambda: bool(link.stops))
            return events, link

    events, link = asyncio.run(main())
    ids = [i for event in events for i in event.delta.token_ids]
    logprobs = [entry for event in events for entry in event.delta.logprobs]
    end = events[-1].finished
    assert text_of(events) == text
    assert (end.reason, end.stop_string) == (common_pb2.FINISH_REASON_STOP_STRING, "dog")
    assert ids == answer[: len(ids)]
    assert byte_level().decode(ids).startswith(text)
    assert not byte_level().decode(ids[:-1]).startswith(text)
    assert [entry.logprob for entry in logprobs] == [-float(i) for i in range(len(ids))]
    assert [entry.candidates[0].token for entry in logprobs] == [entry.token for entry in logprobs]
    assert end.usage.completion_tokens == len(ids)
    assert link.stops == [(1, len(ids))]
    assert link.cancels == []


def test_a_slow_client_gets_few_large_deltas_with_every_token_once(model_dir):
    tokens = [300 + i % 90 for i in range(60_000)]

    async def main():
        sent = asyncio.Event()

        async def script(link, submit):
            await link.step(submit.sequence, tokens[:1], starts=True)
            for start in range(1, len(tokens), 10):
                await link.step(submit.sequence, tokens[start : start + 10])
            await link.step(submit.sequence, finish=LENGTH)
            sent.set()

        # The window stays small, so most of what the client does not read stays with the service.
        options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
        async with (
            serving(model_dir, script) as found,
            grpc.aio.insecure_channel(found.address, options) as channel,
        ):
            stub = inference_pb2_grpc.InferenceStub(channel)
            call = stub.Generate(generate_request(output={"token_ids": True}))
            await sent.wait()
            return await events_of(call)

    events = asyncio.run(main())
    assert [i for event in events for i in event.delta.token_ids] == tokens
    assert len(events) < 3000
    assert max(event.delta.num_tokens for event in events) == MAX_TOKENS_OF_A_DELTA


@pytest.mark.parametrize("ends", ["cancel", "deadline"])
def test_a_call_that_ends_early_cancels_its_sequences(model_dir, ends):
    async def main():
        started = asyncio.Event()

        async def script(link, submit):
            await link.step(submit.sequence, encode("dog"), starts=True)
            started.set()

        async with serving(model_dir, script) as found:
            call = found.stub.Generate(generate_request(n=3), timeout=0.5 if ends == "deadline" else None)
            reading = asyncio.create_task(failure_of_call(call))
            await started.wait()
            if ends == "cancel":
                call.cancel()
            await asyncio.wait([reading])
            link = found.engine.links[0]
            await link.until(lambda: len(link.cancels) == 3)
            timeouts = [submit.spec.timeout_ms for each in link.commands for submit in each.submits]
            return sorted(link.cancels), timeouts

    cancels, timeouts = asyncio.run(main())
    assert cancels == [1, 2, 3]
    assert all(0 < each <= 500 for each in timeouts) if ends == "deadline" else not any(timeouts)


def test_many_answers_have_seeds_of_their_own(model_dir):
    async def main():
        async with serving(model_dir, answering("dog")) as found:
            events = await events_of(found.stub.Generate(generate_request(n=3, sampling={"seed": 7})))
            sent = [each for command in found.engine.links[0].commands for each in command.submits]
            return events, [each.spec.sampling.seed for each in sent]

    events, seeds = asyncio.run(main())
    for index in range(3):
        answer = [e for e in events if getattr(e, e.WhichOneof("event")).index == index]
        assert (kinds(answer)[0], kinds(answer)[-1]) == ("started", "finished")
        assert text_of(answer) == "dog"
    assert seeds[0] == 7
    assert len(set(seeds)) == 3


def test_more_requests_than_there_are_places_are_refused(model_dir):
    async def main():
        async with serving(model_dir, silent, max_requests=1) as found:
            first = found.stub.Generate(generate_request())
            await found.engine.links[0].until(lambda: bool(found.engine.links[0].commands))
            refused = await failure_of_call(found.stub.Generate(generate_request()))
            first.cancel()
            return refused

    code, error = asyncio.run(main())
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "max_requests=1" in error.message
    assert error.retry_delay_s


def test_prompt_logprobs_belong_to_the_prompts_last_tokens(model_dir):
    prompt = encode("the quick fox")

    async def script(link, submit):
        column = engine_pb2.LogprobColumn(sequence=submit.sequence, logprobs=[-1.0] * (len(prompt) - 1))
        await link.step(submit.sequence, begun_sequences=[submit.sequence], begun_cached_tokens=[0])
        await link.step(submit.sequence, starts=True, prompt_logprobs=[column])
        await link.step(submit.sequence, encode("dog"), finish=LENGTH)

    async def main():
        async with serving(model_dir, script) as found:
            request = generate_request(output={"prompt_logprobs": 0})
            return await events_of(found.stub.Generate(request))

    entries = asyncio.run(main())[0].started.prompt_logprobs
    assert [entry.token_id for entry in entries] == prompt
    assert [entry.HasField("logprob") for entry in entries] == [False] + [True] * (len(prompt) - 1)
    assert b"".join(entry.token for entry in entries) == b"the quick fox"


def test_tokenize_and_detokenize_agree_with_the_tokenizer(model_dir):
    chat = inference_pb2.Chat(messages=[{"role": "user", "content": [{"text": "naïve "}, {"text": "🙂"}]}])

    async def main():
        async with serving(model_dir, silent) as found:
            plain = await found.stub.Tokenize(inference_pb2.TokenizeRequest(prompt="naïve 🙂"))
            rendered = await found.stub.Tokenize(inference_pb2.TokenizeRequest(chat=chat))
            shown, hidden = [
                await found.stub.Detokenize(
                    inference_pb2.DetokenizeRequest(token_ids=rendered.token_ids, special_tokens=special)
                )
                for special in (True, False)
            ]
            return plain, rendered, shown.text, hidden.text

    plain, rendered, shown, hidden = asyncio.run(main())
    assert list(plain.token_ids) == encode("naïve 🙂")
    assert b"".join(plain.tokens) == "naïve 🙂".encode()
    assert plain.context_length == 256
    assert rendered.text == shown == "<|user|>naïve 🙂</s><|assistant|>"
    assert hidden == "naïve 🙂"


def test_the_model_is_listed_with_its_limits(model_dir):
    async def main():
        async with serving(model_dir, silent, max_stop_strings=5, default_temperature=0.5) as found:
            return (await found.stub.ListModels(inference_pb2.ListModelsRequest())).models

    (model,) = asyncio.run(main())
    assert (model.name, model.context_length, model.vocab_size) == ("small", 256, VOCAB_SIZE)
    assert model.has_chat_template
    assert not model.has_vision
    assert model.limits.max_stop_strings == 5
    assert model.default_sampling.temperature == 0.5
    assert model.default_sampling.top_p == 1.0
