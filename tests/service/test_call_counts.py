"""Every call is counted once, under its method and the status that it ended with."""

import asyncio
import contextlib
import signal
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from support.metrics_page import by_label, metrics_url, scrape
from support.processes import running_service
from support.scripted_engine import LENGTH
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import encode, events_of, generate_request, serving
from support.tokens import TOKEN, write_tokens
from tandem.cli.services import free_address
from tandem.engine.v1 import engine_pb2, engine_pb2_grpc
from tandem.v1 import inference_pb2
from tokenizer_service.server import InferenceServicer

WAIT_S = 20
SHOWN = (("authorization", f"Bearer {TOKEN}"),)
ENGINE = ("engine_service", "--fake", "--fake-rate=100", "--metrics-listen=127.0.0.1:0")
TOKENIZE = inference_pb2.TokenizeRequest(prompt="the quick fox")
# Field 1 is a string that is cut off.
BROKEN = b"\x0a\x05ab"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model_dir(tmp_path_factory.mktemp("small"), byte_level(), "x")


async def dog(link, submit):
    await link.step(submit.sequence, encode("dog"), starts=True, finish=LENGTH)


async def dog_without_end(link, submit):
    await link.step(submit.sequence, encode("dog"), starts=True)
    await link.until(lambda: bool(link.cancels))


def counted(url, service, total):
    """What was counted by (method, code), when it is `total` calls or more."""
    end_s = time.monotonic() + WAIT_S
    while True:
        counts = by_label(scrape(url), f"tandem_{service}_calls_total", "method", "code")
        if sum(counts.values()) >= total or time.monotonic() > end_s:
            return counts
        time.sleep(0.05)


def tokenizer_counts(directory, ask, total, script=dog, **flags):
    """What a tokenizer service counted after `ask(serving)`."""
    listen = free_address()

    async def main():
        async with serving(directory, script, metrics_listen=listen, **flags) as found:
            await ask(found)
            return await asyncio.to_thread(counted, f"http://{listen}/metrics", "tokenizer", total)

    return asyncio.run(main())


async def failed(call):
    """Waits for a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError):
        await (events_of(call) if hasattr(call, "__aiter__") else call)


def test_answered_calls_are_counted_and_health_is_not(model_dir):
    async def ask(found):
        await found.stub.Tokenize(TOKENIZE)
        await found.stub.Detokenize(inference_pb2.DetokenizeRequest(token_ids=[1]))
        for _ in range(2):
            await found.stub.ListModels(inference_pb2.ListModelsRequest())
        await events_of(found.stub.Generate(generate_request()))
        many = inference_pb2.GenerateManyRequest(generate=generate_request(request_id="1"))
        await events_of(found.stub.GenerateMany(iter([many])))
        await health_pb2_grpc.HealthStub(found.channel).Check(health_pb2.HealthCheckRequest())
        listing = reflection_pb2.ServerReflectionRequest(list_services="")
        stub = reflection_pb2_grpc.ServerReflectionStub(found.channel)
        await events_of(stub.ServerReflectionInfo(iter([listing])))

    assert tokenizer_counts(model_dir, ask, total=7) == {
        ("Tokenize", "OK"): 1,
        ("Detokenize", "OK"): 1,
        ("ListModels", "OK"): 2,
        ("Generate", "OK"): 1,
        ("GenerateMany", "OK"): 1,
        ("other", "OK"): 1,
    }


def test_calls_without_a_token_and_over_a_quota_are_counted_under_their_method(model_dir, tmp_path):
    async def ask(found):
        stub = found.stub
        await failed(stub.Tokenize(TOKENIZE))
        await failed(stub.Generate(generate_request(), metadata=(("authorization", "Bearer wrong"),)))
        await failed(found.channel.unary_unary("/tandem.v1.Inference/Unknown")(b""))
        await stub.Tokenize(TOKENIZE, metadata=SHOWN)
        await failed(stub.Tokenize(TOKENIZE, metadata=SHOWN))
        await failed(stub.Generate(generate_request(), metadata=SHOWN))
        await stub.ListModels(inference_pb2.ListModelsRequest(), metadata=SHOWN)

    tokens = write_tokens(tmp_path / "tokens.toml", requests_per_minute=1)
    assert tokenizer_counts(model_dir, ask, total=7, tokens=tokens) == {
        ("Tokenize", "UNAUTHENTICATED"): 1,
        ("Generate", "UNAUTHENTICATED"): 1,
        ("other", "UNAUTHENTICATED"): 1,
        ("Tokenize", "OK"): 1,
        ("Tokenize", "RESOURCE_EXHAUSTED"): 1,
        ("Generate", "RESOURCE_EXHAUSTED"): 1,
        ("ListModels", "OK"): 1,
    }


def test_messages_that_no_method_takes_and_unknown_methods_are_counted(model_dir):
    async def ask(found):
        path = "/tandem.v1.Inference/"
        await failed(found.channel.unary_unary(path + "Tokenize")(BROKEN))
        await failed(found.channel.unary_stream(path + "Generate")(BROKEN))
        await failed(found.channel.stream_stream(path + "GenerateMany")(iter([BROKEN])))
        await failed(found.stub.Detokenize(inference_pb2.DetokenizeRequest(token_ids=[1 << 30])))
        for unknown in ("Unknown", "Unheard"):
            await failed(found.channel.unary_unary(path + unknown)(b""))
        # Its message is never whole here, so that nothing tells it from a client that gave up.
        await failed(found.stub.Tokenize(inference_pb2.TokenizeRequest(prompt="x" * 10_000)))

    assert tokenizer_counts(model_dir, ask, total=7, max_request_bytes=10_000) == {
        ("Tokenize", "INVALID_ARGUMENT"): 1,
        ("Generate", "INVALID_ARGUMENT"): 1,
        ("GenerateMany", "INVALID_ARGUMENT"): 1,
        ("Detokenize", "INVALID_ARGUMENT"): 1,
        ("other", "UNIMPLEMENTED"): 2,
        ("Tokenize", "CANCELLED"): 1,
    }


def test_streams_that_their_clients_leave_are_cancelled_and_those_at_their_deadline_are_late(model_dir):
    async def ask(found):
        stub = found.stub
        many = inference_pb2.GenerateManyRequest(generate=generate_request(request_id="1"))

        async def one_and_no_end():
            yield many
            await asyncio.Event().wait()

        for call in (stub.Generate(generate_request()), stub.GenerateMany(one_and_no_end())):
            await call.read()
            call.cancel()
        late = stub.Generate(generate_request(), timeout=1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await events_of(late)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    assert tokenizer_counts(model_dir, ask, total=3, script=dog_without_end) == {
        ("Generate", "CANCELLED"): 1,
        ("GenerateMany", "CANCELLED"): 1,
        ("Generate", "DEADLINE_EXCEEDED"): 1,
    }


def test_a_fault_is_counted_as_the_status_that_it_becomes(model_dir, monkeypatch):
    async def fail(self, request, context):
        raise RuntimeError("a fault")

    monkeypatch.setattr(InferenceServicer, "ListModels", fail)

    async def ask(found):
        await failed(found.stub.ListModels(inference_pb2.ListModelsRequest()))

    assert tokenizer_counts(model_dir, ask, total=1) == {("ListModels", "INTERNAL"): 1}


def _generate(stub, num_tokens, **given):
    spec = engine_pb2.SequenceSpec(token_ids=[7, 8, 9], max_tokens=num_tokens, ignore_eos=True)
    return stub.Generate(engine_pb2.GenerateRequest(spec=spec), timeout=60, **given)


@contextlib.contextmanager
def _running_engine(*flags):
    """The process, its metrics' address, and a stub."""
    with (
        running_service(*ENGINE, *flags) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        yield service.process, metrics_url(service.log), engine_pb2_grpc.EngineStub(channel)


def _refused(ask, *given, **named):
    """Makes a call that fails; one message raises at once, a stream when it is read."""
    with pytest.raises(grpc.RpcError):
        list(ask(*given, **named))


def test_the_engine_counts_its_calls(tmp_path):
    with _running_engine(f"--tokens={write_tokens(tmp_path / 'tokens.toml')}") as (_, url, stub):
        stub.GetEngineInfo(engine_pb2.GetEngineInfoRequest(), metadata=SHOWN)
        stub.GetLoad(engine_pb2.GetLoadRequest(), metadata=SHOWN)
        _refused(stub.GetLoad, engine_pb2.GetLoadRequest())
        _refused(stub.PutImage, engine_pb2.PutImageRequest(), metadata=SHOWN)
        _refused(_generate, stub, 1)
        _refused(_generate, stub, 0, metadata=SHOWN)
        assert list(_generate(stub, 3, metadata=SHOWN))
        call = _generate(stub, 900, metadata=SHOWN)
        next(call)
        call.cancel()
        _refused(stub.Session, iter([engine_pb2.SessionRequest()]), metadata=SHOWN)
        counts = counted(url, "engine", 9)
    assert counts == {
        ("PutImage", "INVALID_ARGUMENT"): 1,
        ("GetEngineInfo", "OK"): 1,
        ("GetLoad", "OK"): 1,
        ("GetLoad", "UNAUTHENTICATED"): 1,
        ("Generate", "UNAUTHENTICATED"): 1,
        ("Generate", "INVALID_ARGUMENT"): 1,
        ("Generate", "OK"): 1,
        ("Generate", "CANCELLED"): 1,
        ("Session", "INVALID_ARGUMENT"): 1,
    }


def test_what_a_draining_service_refuses_is_counted():
    with _running_engine("--lame-duck-s=0", "--grace-s=30") as (process, url, stub):
        running = _generate(stub, 900)
        next(running)
        process.send_signal(signal.SIGTERM)
        num_answered, code = 0, None
        end_s = time.monotonic() + WAIT_S
        while code is None:
            assert time.monotonic() < end_s
            try:
                stub.GetLoad(engine_pb2.GetLoadRequest())
                num_answered += 1
            except grpc.RpcError as error:
                code = error.code()
        assert code is grpc.StatusCode.UNAVAILABLE
        counts = counted(url, "engine", num_answered + 1)
        assert counts.pop(("GetLoad", "OK"), 0) == num_answered
        assert counts == {("GetLoad", "UNAVAILABLE"): 1}
