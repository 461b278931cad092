"""Both clients against a scripted service: results, errors, connections."""

import asyncio
import hashlib
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

import tandem
from support.both_clients import both_ways
from support.scripted_inference import ScriptedInference, Served, running
from tandem_service import errors


@pytest.fixture
def served() -> Iterator[Served]:
    servicer = ScriptedInference()
    with running(servicer) as target:
        yield servicer, target


def test_generate_adds_the_events_up(served: Served) -> None:
    for completion in both_ways("generate", served[1], "one two", n=2, request_id="mine"):
        assert completion.request_id == "mine"
        assert completion.prompt == "p"
        assert [(each.index, each.text) for each in completion.answers] == [
            (0, "one two ."),
            (1, "one two ."),
        ]
        answer = completion.answers[1]
        assert answer.token_ids == (3, 4, 2)
        assert answer.finish_reason is tandem.FinishReason.EOS
        assert (answer.stop_token_id, answer.stop_string) == (9, None)
        assert answer.usage == tandem.Usage(prompt_tokens=7, cached_tokens=2, completion_tokens=3)
        assert answer.timings == tandem.Timings(queue_ms=1.0, prefill_ms=2.0, decode_ms=3.0)


def test_chat_sends_messages_of_all_forms(served: Served) -> None:
    servicer, target = served
    messages = [
        {"role": "system", "content": "Be brief."},
        tandem.Message("user", ["Look: ", tandem.Image(data=b"png"), "what?"]),
    ]
    for completion in both_ways("chat", target, messages):
        assert completion.text == "Look: what? ."
    system, user = servicer.requests[-1].chat.messages
    assert (system.role, [part.text for part in system.content]) == ("system", ["Be brief."])
    assert [part.WhichOneof("part") for part in user.content] == ["text", "image", "text"]
    assert user.content[1].image.data == b"png"


def test_a_picture_is_a_file_its_bytes_or_its_hash(served: Served, tmp_path: Path) -> None:
    servicer, target = served
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"jpeg")
    image = tandem.image(path)
    assert image == tandem.image(str(path)) == tandem.image(b"jpeg") == tandem.Image(data=b"jpeg")
    content = ["What is this?", image, image.by_hash()]
    for completion in both_ways("chat", target, [{"role": "user", "content": content}]):
        assert completion.text == "What is this? ."
    _, by_data, by_hash = servicer.requests[-1].chat.messages[0].content
    assert by_data.image.data == b"jpeg"
    assert by_hash.image.sha256 == hashlib.sha256(b"jpeg").digest()
    assert image.by_hash().by_hash() == image.by_hash()
    for _ in both_ways("generate", target, "see <image>", images=[image]):
        assert servicer.requests[-1].images[0].data == b"jpeg"
    with pytest.raises(OSError, match="nowhere"):
        tandem.image(tmp_path / "nowhere.jpg")


def test_unary_calls(served: Served) -> None:
    _, target = served
    for tokens in both_ways("tokenize", target, "one two"):
        assert tokens == tandem.Tokens((3, 4), (b"one", b" two"), "one two", 100)
    for tokens in both_ways("tokenize", target, messages=[{"role": "user", "content": "hi"}]):
        assert tokens.text == "hi"
    assert both_ways("detokenize", target, [4, 5]) == ["4 5", "4 5"]
    for (model,) in both_ways("models", target):
        assert (model.name, model.context_length, model.has_vision) == ("scripted", 100, False)
        assert model.limits.max_request_bytes == 2**40
        assert model.default_sampling == tandem.SamplingDefaults(temperature=0.5, logit_bias={3: 1.0})


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (errors.InvalidRequestError("bad"), tandem.InvalidRequestError),
        (errors.UnsupportedError("no"), tandem.UnimplementedError),
        (errors.DuplicateRequestError("twice"), tandem.AlreadyExistsError),
        (errors.MismatchError("other"), tandem.FailedPreconditionError),
        (errors.NotFoundError("no more"), tandem.NotFoundError),
        (errors.OverloadedError("full"), tandem.OverloadedError),
        (errors.UnavailableError("gone"), tandem.UnavailableError),
        (errors.DeadlineError("late"), tandem.DeadlineExceededError),
        (errors.RequestCancelledError("enough"), tandem.RequestCancelledError),
        (errors.InternalError("broke"), tandem.InternalError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_statuses_become_errors(
    served: Served, sent: errors.ServiceError, received: type[tandem.TandemError]
) -> None:
    servicer, target = served
    # As many as all attempts of both clients.
    servicer.failures = [sent] * 6
    for error in both_ways("generate", target, "one"):
        assert type(error) is received
        assert error.message == sent.message


def test_errors_carry_violations_and_the_retry_delay(served: Served) -> None:
    servicer, target = served
    for error in both_ways("generate", target, "one", max_tokens=0):
        assert error.status is grpc.StatusCode.INVALID_ARGUMENT
        assert error.violations == (tandem.Violation("stop.max_tokens", "0 is less than 1"),)
        assert error.retry_delay_s is None
    servicer.failures = [errors.OverloadedError("full", retry_delay_s=1000.25)] * 2
    for error in both_ways("generate", target, "one"):
        assert error.retry_delay_s == 1000.25
    assert len(servicer.requests) == 4


def test_a_stream_that_ends_early_is_an_error(served: Served) -> None:
    for error in both_ways("generate", served[1], "cut"):
        assert type(error) is tandem.InternalError


def test_one_client_serves_many_threads(served: Served) -> None:
    with tandem.Client(served[1]) as each, futures.ThreadPoolExecutor(8) as pool:
        texts = pool.map(lambda index: each.generate(str(index)).text, range(64))
        assert list(texts) == [f"{index} ." for index in range(64)]


def test_nothing_there_is_unavailable() -> None:
    with running(ScriptedInference()) as target:
        pass
    for error in both_ways("generate", target, "one"):
        assert type(error) is tandem.UnavailableError


def test_addresses_of_one_name_take_turns() -> None:
    first, second = ScriptedInference(), ScriptedInference()
    with running(first) as one, running(second) as two, tandem.Client(f"ipv4:{one},{two}") as each:
        for _ in range(20):
            each.models()
            if first.requests and second.requests:
                break
            time.sleep(0.05)
    assert first.requests
    assert second.requests


def test_a_unix_socket(tmp_path: Path) -> None:
    with running(ScriptedInference(), f"unix:{tmp_path}/socket") as target:
        assert [each.text for each in both_ways("generate", target, "one")] == ["one .", "one ."]


def test_an_async_client_may_be_made_outside_the_loop(served: Served) -> None:
    each = tandem.AsyncClient(served[1])

    async def run() -> str:
        async with each:
            return (await each.generate("one")).text

    assert [asyncio.run(run()), asyncio.run(run())] == ["one .", "one ."]
