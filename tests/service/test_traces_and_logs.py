"""One request across both services, as spans and as log lines."""

import contextlib
import json

import grpc
import pytest

import tandem
from support.processes import running_service
from support.span_collector import attributes_of, running_collector
from tandem.v1 import inference_pb2 as pb, inference_pb2_grpc

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "the fox is called Reynard"
FORGED = "id\n2026-01-01 00:00:00,000 INFO tandem: forged"


def _request(**fields):
    stop = {"max_tokens": 3, "ignore_eos": True}
    return pb.GenerateRequest(**{"prompt": SECRET, "stop": stop, **fields})


@contextlib.contextmanager
def _services(*flags, engine_flags=()):
    with (
        running_service("engine_service", "--fake", "--fake-rate=0", *flags, *engine_flags) as engine,
        running_service("tokenizer_service", f"--engine={engine.address}", *flags) as tokenizer,
        grpc.insecure_channel(tokenizer.address) as channel,
    ):
        yield inference_pb2_grpc.InferenceStub(channel), tokenizer, engine


@pytest.fixture(scope="module")
def spans():
    """The spans of the tokenizer service and of the engine service after six requests."""
    with running_collector() as collector:
        flags = (f"--trace-endpoint={collector.endpoint}", "--trace-ratio=0")
        # The engine would trace every root; what the tokenizer service leaves out stays left out.
        with _services(*flags, engine_flags=("--trace-ratio=1",)) as (stub, tokenizer, engine):
            for flag in ("01", "00"):
                metadata = [("traceparent", f"00-{TRACE}-{PARENT}-{flag}")]
                list(stub.Generate(_request(request_id=f"asked-{flag}"), metadata=metadata))
            metadata = [("traceparent", f"00-{TRACE}-{PARENT}-01")]
            list(stub.Generate(_request(request_id="two", n=2), metadata=metadata))
            list(stub.Generate(_request(request_id="root")))
            list(stub.Generate(_request(request_id="odd"), metadata=[("traceparent", "00-odd")]))
            with pytest.raises(grpc.RpcError):
                list(stub.Generate(_request(request_id="bad", n=1000), metadata=metadata))
            # Ending sends what is left.
            assert tokenizer.terminate() == 0
            assert engine.terminate() == 0
        yield collector.spans("tandem-tokenizer"), collector.spans("tandem-engine")


def test_a_request_and_its_sequences_are_one_trace(spans):
    requests, sequences = spans
    assert {span.trace_id.hex() for span in requests + sequences} == {TRACE}
    assert {span.parent_span_id.hex() for span in requests} == {PARENT}
    children = {span.span_id: attributes_of(span)["request_id"] for span in requests}
    assert sorted(children.values()) == ["asked-01", "bad", "two"]
    assert sorted(children[span.parent_span_id] for span in sequences) == ["asked-01", "two", "two"]


def test_spans_say_what_happened(spans):
    requests, sequences = spans
    told = {attributes_of(span)["request_id"]: (span, attributes_of(span)) for span in requests}
    span, attributes = told["asked-01"]
    assert (span.name, attributes["outcome"], attributes["completion_tokens"]) == ("Generate", "OK", 3)
    assert [event.name for event in span.events] == ["first delta"]
    assert told["bad"][1]["outcome"] == "INVALID_ARGUMENT"
    for sequence in sequences:
        attributes = attributes_of(sequence)
        assert (attributes["reason"], attributes["output_tokens"]) == ("length", 3)
        assert attributes["prompt_tokens"] > 0
        assert [event.name for event in sequence.events] == ["queued", "first token", "finished"]
        times = [event.time_unix_nano for event in sequence.events]
        assert sequence.start_time_unix_nano <= times[0] < times[1] < times[2] <= sequence.end_time_unix_nano


def test_the_client_passes_its_span_on():
    with running_collector() as collector:
        with _services(f"--trace-endpoint={collector.endpoint}") as (_, tokenizer, engine):
            with tandem.Client(tokenizer.address) as client:
                client.generate(SECRET, max_tokens=2, traceparent=f"00-{TRACE}-{PARENT}-01")
            assert tokenizer.terminate() == 0
            assert engine.terminate() == 0
        (request,), (sequence,) = collector.spans("tandem-tokenizer"), collector.spans("tandem-engine")
    assert request.parent_span_id.hex() == PARENT
    assert (sequence.trace_id, sequence.parent_span_id) == (request.trace_id, request.span_id)


def test_a_collector_that_is_not_there_holds_up_neither_requests_nor_the_end():
    with _services("--trace-endpoint=http://127.0.0.1:9") as (stub, tokenizer, engine):
        assert list(stub.Generate(_request(), timeout=30))[-1].HasField("finished")
        assert tokenizer.terminate() == 0
        assert engine.terminate() == 0


def test_a_line_for_each_request_in_both_logs_without_what_was_said():
    with _services("--log-requests", "--log-format=json") as (stub, tokenizer, engine):
        list(stub.Generate(_request(request_id=FORGED)))
        with pytest.raises(grpc.RpcError):
            list(stub.Generate(_request(request_id="x" * 100_000)))
        assert tokenizer.terminate() == 0
        assert engine.terminate() == 0
        logs = [service.log.read_text() for service in (tokenizer, engine)]
    assert not any(SECRET.split()[-1] in log for log in logs)
    (request, bad), (sequence,) = (_told(log, "ended") for log in logs)
    assert request["request_id"] == sequence["request_id"] == FORGED
    assert request["outcome"] == "OK"
    assert request["completion_tokens"] == sequence["output_tokens"] == 3
    assert request["prompt_tokens"] == sequence["prompt_tokens"] > 0
    assert request["queue_ms"] <= request["ttft_ms"] <= request["duration_ms"]
    assert (bad["outcome"], bad["completion_tokens"], bad["ttft_ms"]) == ("INVALID_ARGUMENT", 0, None)
    assert bad["request_id"] == "x" * 256


def test_what_the_end_of_the_service_cut_is_logged_as_the_client_saw_it():
    flags = ("--log-requests", "--log-format=json", "--grace-s=0.3")
    stop = {"max_tokens": 500, "ignore_eos": True}
    with _services(*flags, engine_flags=("--fake-rate=50",)) as (stub, tokenizer, _):
        many = pb.GenerateManyRequest(generate=_request(request_id="many", stop=stop))
        calls = [stub.Generate(_request(request_id="one", stop=stop)), stub.GenerateMany(iter([many]))]
        for call in calls:
            next(call)
        assert tokenizer.terminate() == 0
        for call in calls:
            with pytest.raises(grpc.RpcError) as end:
                list(call)
            assert end.value.code() is grpc.StatusCode.UNAVAILABLE
        told = _told(tokenizer.log.read_text(), "ended")
    assert {each["request_id"]: each["outcome"] for each in told} == dict.fromkeys(
        ("one", "many"), "UNAVAILABLE"
    )


def test_by_default_requests_leave_no_line_and_a_forged_one_does_not_appear():
    with _services() as (stub, tokenizer, engine):
        list(stub.Generate(_request(request_id=FORGED)))
        for service in (tokenizer, engine):
            assert service.terminate() == 0
            assert "forged" not in service.log.read_text()


def _told(log, word):
    """The lines about requests; every line but the announcement on standard output is an object."""
    lines = [line for line in log.splitlines() if not line.startswith("tokenizer service listens")]
    return [told for told in map(json.loads, lines) if told["message"].endswith(word)]
