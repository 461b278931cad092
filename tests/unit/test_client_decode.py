"""From messages to results."""

import pytest

import tandem
from tandem import decode
from tandem.collect import Batch, Collector
from tandem.v1 import common_pb2, error_pb2, inference_pb2

ENTRY = inference_pb2.TokenLogprob(
    token_id=5,
    token=b"\xf0\x9f",
    logprob=-0.5,
    candidates=[inference_pb2.TokenLogprob.Candidate(token_id=6, token=b"a", logprob=-0.25)],
)
FIRST = inference_pb2.TokenLogprob(token_id=1, token=b"<s>")
TYPED_ENTRY = tandem.TokenLogprob(5, b"\xf0\x9f", -0.5, (tandem.Candidate(6, b"a", -0.25),))

STARTED = inference_pb2.Started(
    index=1,
    prompt_tokens=3,
    cached_tokens=2,
    prompt="p",
    prompt_token_ids=[1, 5],
    prompt_logprobs=[FIRST, ENTRY],
)
DELTA = inference_pb2.Delta(index=1, text="t", token_ids=[5], logprobs=[ENTRY], num_tokens=1)
FINISHED = inference_pb2.Finished(
    index=1,
    reason=common_pb2.FINISH_REASON_STOP_STRING,
    stop_string="",
    usage=inference_pb2.Usage(prompt_tokens=3, cached_tokens=2, completion_tokens=1),
    timings=inference_pb2.Timings(queue_ms=1.5, prefill_ms=2.5, decode_ms=3.5),
)


def test_started() -> None:
    event = decode.event(inference_pb2.GenerateResponse(request_id="r", started=STARTED))
    logprobs = (tandem.TokenLogprob(1, b"<s>", None), TYPED_ENTRY)
    assert event == tandem.Started("r", 1, 3, 2, "p", (1, 5), logprobs)


def test_delta() -> None:
    event = decode.event(inference_pb2.GenerateManyResponse(request_id="r", delta=DELTA))
    assert event == tandem.Delta("r", 1, "t", (5,), (TYPED_ENTRY,), 1)


def test_finished() -> None:
    event = decode.event(inference_pb2.GenerateResponse(request_id="r", finished=FINISHED))
    usage, timings = tandem.Usage(3, 2, 1), tandem.Timings(1.5, 2.5, 3.5)
    assert event == tandem.Finished("r", 1, tandem.FinishReason.STOP_STRING, "", None, usage, timings)


def test_every_finish_reason_has_a_name() -> None:
    for name in common_pb2.FinishReason.keys():  # noqa: SIM118 (the enum is no mapping)
        message = inference_pb2.Finished(reason=name)
        event = decode.event(inference_pb2.GenerateResponse(finished=message))
        assert isinstance(event, tandem.Finished)
        assert name == f"FINISH_REASON_{event.reason.name}"


def test_a_finish_reason_of_a_newer_service() -> None:
    message = inference_pb2.Finished.FromString(b"\x10\x63")
    event = decode.event(inference_pb2.GenerateResponse(finished=message))
    assert isinstance(event, tandem.Finished)
    assert event.reason is tandem.FinishReason.UNSPECIFIED


def test_a_completion_keeps_interleaved_answers_apart() -> None:
    collector = Collector(tandem.Request(prompt="p", n=2))
    for index in (1, 0):
        collector.add(tandem.Started("r", index, 3, 0))
    for text in ("a", "b"):
        for index in (0, 1):
            collector.add(tandem.Delta("r", index, f"{text}{index}", token_ids=(index,)))
    collector.add(tandem.Finished("r", 1, tandem.FinishReason.EOS))
    assert not collector.is_complete()
    with pytest.raises(tandem.InternalError, match="answer 0"):
        collector.completion()
    collector.add(tandem.Finished("r", 0, tandem.FinishReason.LENGTH))
    assert collector.is_complete()
    completion = collector.completion()
    assert [(each.text, each.token_ids) for each in completion.answers] == [
        ("a0b0", (0, 0)),
        ("a1b1", (1, 1)),
    ]
    assert (completion.text, completion.finish_reason) == ("a0b0", tandem.FinishReason.LENGTH)


def responses(request_id: str) -> list[inference_pb2.GenerateManyResponse]:
    response = inference_pb2.GenerateManyResponse
    return [
        response(request_id=request_id, started=inference_pb2.Started()),
        response(request_id=request_id, delta=inference_pb2.Delta(text="t")),
        response(request_id=request_id, finished=inference_pb2.Finished()),
    ]


def test_a_batch_tells_requests_apart() -> None:
    batch = Batch()
    ids = [batch.add("a").generate.request_id, batch.add(tandem.Request("b")).generate.request_id]
    assert len(set(ids)) == 2
    taken = [
        batch.take(each) for pair in zip(responses(ids[1]), responses(ids[0]), strict=True) for each in pair
    ]
    assert taken[:4] == [None] * 4
    assert [(each.index, each.unwrap().text) for each in taken[4:] if each] == [(1, "t"), (0, "t")]
    batch.check_complete()


def test_a_batch_frees_the_id_of_a_failed_request() -> None:
    batch = Batch()
    batch.add(tandem.Request("a", request_id="x"))
    with pytest.raises(ValueError, match="request_id='x'"):
        batch.add(tandem.Request("b", request_id="x"))
    with pytest.raises(tandem.InternalError, match="1 requests"):
        batch.check_complete()
    failed = error_pb2.Status(code=8, message="full")
    result = batch.take(inference_pb2.GenerateManyResponse(request_id="x", failed=failed))
    assert result is not None
    assert type(result.error) is tandem.OverloadedError
    # What the service had on its way before the failure.
    assert batch.take(responses("x")[1]) is None
    batch.add(tandem.Request("b", request_id="x"))


def test_an_unknown_status_code_is_internal() -> None:
    failed = error_pb2.Status(code=99, message="?")
    error = decode.failure(inference_pb2.GenerateManyResponse(failed=failed))
    assert type(error) is tandem.InternalError
