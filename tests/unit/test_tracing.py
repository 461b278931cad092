"""Spans: whose child they are, which are recorded, and what happens where nothing is traced."""

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio

from tandem_service.tracing import Tracer, open_tracer

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = (f"00-{TRACE}-{PARENT}-{flags}" for flags in ("01", "00"))
MALFORMED = [
    "", "x", "\n", f"00-{TRACE}-{PARENT}", f"00-{TRACE.upper()}-{PARENT}-01", f"00-{'0' * 32}-{PARENT}-01",
    f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-01\n", "a" * 10_000,
]  # fmt: skip


@pytest.fixture
def exporter():
    return InMemorySpanExporter()


def _tracer(exporter, ratio=1.0):
    provider = TracerProvider(sampler=ParentBasedTraceIdRatio(ratio))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracer(provider)


def test_a_span_is_the_child_of_the_one_that_was_sent(exporter):
    span = _tracer(exporter).begin("work", SAMPLED, request_id="a")
    span.add_event("first", count=2)
    span.end(outcome="OK")
    (found,) = exporter.get_finished_spans()
    assert (format(found.context.trace_id, "032x"), format(found.parent.span_id, "016x")) == (TRACE, PARENT)
    assert span.traceparent == f"00-{TRACE}-{found.context.span_id:016x}-01"
    assert dict(found.attributes) == {"request_id": "a", "outcome": "OK"}
    assert [(event.name, dict(event.attributes)) for event in found.events] == [("first", {"count": 2})]


@pytest.mark.parametrize("traceparent", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_context_is_ignored(exporter, traceparent):
    assert Tracer().begin("work", traceparent).traceparent == ""
    span = _tracer(exporter).begin("work", traceparent)
    span.end()
    (found,) = exporter.get_finished_spans()
    assert found.parent is None
    assert span.traceparent != ""


@pytest.mark.parametrize(
    ("traceparent", "ratio", "is_kept"),
    [
        pytest.param(SAMPLED, 0.0, True, id="the-client-traces"),
        pytest.param(UNSAMPLED, 1.0, False, id="the-client-does-not"),
        pytest.param("", 1.0, True, id="root"),
        pytest.param("", 0.0, False, id="root-left-out"),
    ],
)
def test_sampling_follows_the_client_and_else_the_ratio(exporter, traceparent, ratio, is_kept):
    tracer = _tracer(exporter, ratio)
    span = tracer.begin("outer", traceparent)
    inner = _tracer(exporter, 1 - ratio).begin("inner", span.traceparent)
    assert span.is_recording is inner.is_recording is is_kept
    inner.end()
    span.end()
    assert len(exporter.get_finished_spans()) == 2 * is_kept


def test_without_tracing_a_context_passes_through_and_nothing_is_imported():
    code = (
        "import sys, engine_service.server, tokenizer_service.server;"
        "from tandem_service.tracing import open_tracer;"
        "tracer = open_tracer('x', '', 1.0);"
        f"span = tracer.begin('work', '{SAMPLED}', a=1); span.add_event('b'); span.end(c=2); tracer.close();"
        f"assert span.traceparent == '{SAMPLED}';"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110)
    assert done.stdout.strip() == "[]", done.stderr


def test_tracing_that_is_not_installed_is_said_in_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(
        ValueError, match=r"trace_endpoint='http://here:1'.*pip install 'tandem-llm\[tracing\]'"
    ):
        open_tracer("x", "http://here:1", 1.0)
