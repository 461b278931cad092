"""Client, tokenizer service and engine service together, with the demo model over real sockets."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
import torch
import transformers

import tandem
from support.checkpoints import greedy_ids
from support.processes import running_service, wait_until_serving
from tandem.engine.v1 import engine_pb2, engine_pb2_grpc
from tandem.v1 import error_pb2, inference_pb2 as pb
from tandem_demo import MODEL_DIR

CONTEXT_LENGTH = 1024
QUESTIONS = ("What is 12 + 34?", "Tell me a story about a fox.", "Count from 3 to 9.", "Who are you?")


@contextlib.contextmanager
def _services(*engine_flags, tokenizer_flags=()):
    with (
        running_service("engine_service", *engine_flags) as engine,
        running_service("tokenizer_service", f"--engine={engine.address}", *tokenizer_flags) as tokenizer,
    ):
        yield tokenizer, engine


@pytest.fixture(scope="module")
def services():
    # Less memory than 64 long sequences need, so that load brings preemption.
    with _services("--max-num-seqs=64", "--num-blocks=192", "--max-prefill-tokens=256") as both:
        yield both


@pytest.fixture(scope="module")
def client(services):
    with tandem.Client(services[0].address) as client:
        yield client


@pytest.fixture(scope="module")
def oracle():
    model = transformers.AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32).eval()
    return model, transformers.AutoTokenizer.from_pretrained(MODEL_DIR)


def _load(services):
    with grpc.insecure_channel(services[1].address) as channel:
        stub = engine_pb2_grpc.EngineStub(channel)
        for _ in range(100):
            load = stub.GetLoad(engine_pb2.GetLoadRequest()).load
            if (load.num_running, load.num_waiting, load.num_free_blocks) == (0, 0, load.num_blocks):
                break
            time.sleep(0.05)
        return load


def _assert_all_free(services):
    load = _load(services)
    assert (load.num_running, load.num_waiting) == (0, 0)
    assert load.num_free_blocks == load.num_blocks == 192


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_greedy_chat_equals_transformers(client, oracle, question):
    model, tokenizer = oracle
    messages = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert list(client.tokenize(messages=messages).token_ids) == prompt
    answer = client.chat(messages, temperature=0, max_tokens=60, return_token_ids=True, include_stop=True)
    expected = greedy_ids(model, prompt, 60)
    assert list(answer.token_ids) == expected
    assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)


def test_the_demo_model_answers_sensibly(client):
    def ask(question):
        return client.chat([{"role": "user", "content": question}], temperature=0).text

    assert "46" in ask("What is 12 + 34?")
    assert "fox" in ask("Tell me a story about a fox.").lower()


def test_logprobs_equal_transformers(client, oracle):
    model, tokenizer = oracle
    answer = client.generate("Once upon a time", max_tokens=12, temperature=0, logprobs=2, prompt_logprobs=0)
    prompt = tokenizer("Once upon a time")["input_ids"]
    ids = torch.tensor([prompt + [entry.token_id for entry in answer.answers[0].logprobs]])
    with torch.inference_mode():
        expected = model(ids).logits[0].log_softmax(-1)
    chosen = expected[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()
    found = [each.logprob for each in (*answer.prompt_logprobs, *answer.answers[0].logprobs)]
    assert found[0] is None
    assert found[1:] == pytest.approx(chosen, abs=1e-4)
    assert b"".join(entry.token for entry in answer.answers[0].logprobs).decode() == answer.text


def test_a_seeded_answer_repeats_and_n_answers_differ(client):
    settings = {"max_tokens": 30, "temperature": 1.2, "seed": 5}
    first = client.generate("Once upon a time", n=4, **settings)
    again = client.generate("Once upon a time", **settings)
    assert first.answers[0].text == again.text
    assert len({answer.text for answer in first.answers}) > 1


def test_a_stop_string_ends_text_ids_and_usage_at_one_place(client, services):
    whole = client.generate("Once upon a time", max_tokens=60, temperature=0)
    stop = whole.text[20:23]
    cut = client.generate(
        "Once upon a time", max_tokens=60, temperature=0, stop=stop, return_token_ids=True, logprobs=0
    )
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason is tandem.FinishReason.STOP_STRING
    assert cut.answers[0].stop_string == stop
    assert cut.usage.completion_tokens == len(cut.token_ids) == len(cut.answers[0].logprobs)
    _assert_all_free(services)


def test_500_streams_at_once_get_every_token_once(services):
    rng = random.Random(4)
    prompts = [[rng.randrange(6, 2048) for _ in range(rng.randint(1, 60))] for _ in range(250)] * 2
    counts = [rng.randint(1, 60) for _ in range(250)] * 2

    async def one(client, prompt, count):
        return await client.generate(
            token_ids=prompt, max_tokens=count, temperature=0, ignore_eos=True, return_token_ids=True
        )

    async def run():
        async with tandem.AsyncClient(services[0].address) as client:
            return await asyncio.gather(*(one(client, *pair) for pair in zip(prompts, counts, strict=True)))

    answers = asyncio.run(run())
    assert [len(answer.token_ids) for answer in answers] == counts
    assert [answer.usage.completion_tokens for answer in answers] == counts
    assert [a.token_ids for a in answers[:250]] == [a.token_ids for a in answers[250:]]
    _assert_all_free(services)


def test_cancelling_half_of_500_streams_leaves_nothing_behind(services):
    rng = random.Random(5)

    async def one(client, number):
        will_leave = number % 2 == 0
        leave_after = rng.randint(0, 20)
        num_tokens = 0
        async with client.stream(f"Story {number}:", max_tokens=60, ignore_eos=True) as stream:
            async for event in stream:
                num_tokens += isinstance(event, tandem.Delta) and event.num_tokens
                if will_leave and num_tokens >= leave_after:
                    return None
        return num_tokens

    async def run():
        async with tandem.AsyncClient(services[0].address) as client:
            return await asyncio.gather(*(one(client, number) for number in range(500)))

    assert asyncio.run(run()) == [None, 60] * 250
    _assert_all_free(services)


def _request(**fields):
    fields.setdefault("prompt", "hello")
    if fields["prompt"] is None:
        del fields["prompt"]
    return pb.GenerateRequest(**fields)


BAD_REQUESTS = [
    pytest.param(_request(prompt=""), "prompt", "empty", id="empty-prompt"),
    pytest.param(_request(prompt=None), "prompt", "one of", id="no-input"),
    pytest.param(
        _request(prompt=None, token_ids={"ids": [9] * CONTEXT_LENGTH}),
        "token_ids",
        "1023",
        id="too-long-by-one",
    ),
    pytest.param(_request(stop={"max_tokens": -1}), "stop.max_tokens", "-1", id="negative-max-tokens"),
    pytest.param(_request(stop={"max_tokens": 0}), "stop.max_tokens", "0", id="zero-max-tokens"),
    pytest.param(_request(sampling={"top_p": 0}), "sampling.top_p", "(0, 1]", id="top-p-0"),
    pytest.param(_request(sampling={"top_p": 1.5}), "sampling.top_p", "1.5", id="top-p-1.5"),
    pytest.param(_request(model="gpt-9"), "model", "gpt-9", id="unknown-model"),
    pytest.param(
        _request(stop={"strings": ["x"] * 10_001}), "stop.strings", "10001", id="10001-stop-strings"
    ),
    pytest.param(_request(images=[{"data": b"\x89PNG"}]), "images", "", id="image-to-a-text-model"),
]


def _failure(services, request):
    """Status and violations of a request that is sent as bytes, as a careless client might."""
    data = request if isinstance(request, bytes) else request.SerializeToString()
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(services[0].address, options) as channel:
        generate = channel.unary_stream("/tandem.v1.Inference/Generate")
        with pytest.raises(grpc.RpcError) as error:
            list(generate(data, timeout=30))
    status = error_pb2.Status()
    for key, value in error.value.trailing_metadata():
        if key == "grpc-status-details-bin":
            status.MergeFromString(value)
    found = [error_pb2.BadRequest.FromString(detail.value).field_violations[0] for detail in status.details]
    return error.value, found


@pytest.mark.parametrize(("request_", "field", "words"), BAD_REQUESTS)
def test_a_bad_request_is_refused_with_field_and_bound(services, request_, field, words):
    error, violations = _failure(services, request_)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations[0].field == field
    assert words in violations[0].description


def test_text_that_is_no_utf8_is_refused_with_its_field(services):
    error, violations = _failure(
        services, _request(prompt="abc").SerializeToString().replace(b"abc", b"a\xffc")
    )
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert violations[0].field == "prompt"


def test_a_message_of_100_mb_is_refused_with_both_sizes_and_the_service_goes_on(services, client):
    error, _ = _failure(services, _request(prompt="x" * 100_000_000))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "vs. " in error.details()
    assert client.models()[0].limits.max_request_bytes < 100_000_000
    assert str(client.models()[0].limits.max_request_bytes) in error.details()


def test_one_token_fewer_than_too_long_is_answered(client):
    answer = client.generate(token_ids=[9] * (CONTEXT_LENGTH - 1), temperature=0)
    assert answer.usage.completion_tokens == 1


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"response_format": {"regex": "a+"}}, id="response_format"),
        pytest.param({"adapter": "poet"}, id="adapter"),
    ],
)
def test_what_later_versions_will_do_is_unimplemented_by_name(services, fields):
    error, violations = _failure(services, _request(**fields))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert violations[0].field.startswith(next(iter(fields)))


def _buf_curl(address, method, body):
    buf = Path(sys.executable).parent / "buf"
    command = [buf, "curl", "--http2-prior-knowledge", "--protocol=grpc", f"--unix-socket={address}"]
    url = f"http://localhost/{method}"
    return subprocess.run(
        [*command, "-d", json.dumps(body), url], capture_output=True, text=True, timeout=60, check=False
    )


def test_buf_curl_needs_no_proto_file_for_either_service(services):
    public = services[0].address.removeprefix("unix:")
    body = {"prompt": "Once upon a time", "stop": {"maxTokens": 5}, "sampling": {"temperature": 0}}
    result = _buf_curl(public, "tandem.v1.Inference/Generate", body)
    assert '"reason": "FINISH_REASON_LENGTH"' in result.stdout, result.stderr
    result = _buf_curl(public, "tandem.v1.Inference/Generate", body | {"sampling": {"topP": 7}})
    assert "sampling.top_p: 7 is not in (0, 1]" in result.stderr
    engine = services[1].address.removeprefix("unix:")
    result = _buf_curl(engine, "tandem.engine.v1.Engine/GetEngineInfo", {})
    assert json.loads(result.stdout)["info"]["contextLength"] == CONTEXT_LENGTH


def test_a_killed_core_comes_back_and_finishes_what_ran_and_what_waited():
    with _services("--fake", "--fake-rate=20", "--max-num-seqs=1") as both:
        tokenizer, engine = both
        with grpc.insecure_channel(engine.address) as channel:
            stub = engine_pb2_grpc.EngineStub(channel)
            epoch = stub.GetEngineInfo(engine_pb2.GetEngineInfoRequest()).info.epoch

        async def run():
            async with tandem.AsyncClient(tokenizer.address, retries=0) as client:
                running = client.stream("one two three four", max_tokens=40)
                events = aiter(running)
                while not isinstance(first := await anext(events), tandem.Delta):
                    pass
                waiting = asyncio.create_task(client.generate("five six", max_tokens=3, timeout=60))
                await asyncio.sleep(0.3)
                os.kill(int(epoch.split("-")[0]), signal.SIGKILL)
                deltas = [first] + [event async for event in events if isinstance(event, tandem.Delta)]
                return deltas, await waiting

        deltas, waited = asyncio.run(run())
        assert sum(delta.num_tokens for delta in deltas) == 40
        assert waited.usage.completion_tokens == 3
        wait_until_serving(tokenizer)


def test_workers_share_the_port_and_all_of_them_answer():
    with running_service("engine_service", "--fake", "--fake-rate=0") as engine:
        port = _free_port()
        command = [sys.executable, "-m", "tokenizer_service", f"--listen=127.0.0.1:{port}", "--workers=3"]
        process = subprocess.Popen([*command, f"--engine={engine.address}"], stderr=subprocess.DEVNULL)
        try:
            _wait_for_answer(port)
            peers = set()
            for _ in range(60):
                with tandem.Client(
                    f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
                ) as client:
                    answer = client.generate("one", max_tokens=2)
                    peers.add(answer.request_id)
                    assert answer.usage.completion_tokens == 2
            assert len(peers) == 60
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


def _free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_for_answer(port):
    with tandem.Client(f"127.0.0.1:{port}", retries=0) as client:
        for _ in range(300):
            with contextlib.suppress(tandem.UnavailableError):
                client.generate("one", max_tokens=1)
                return
            time.sleep(0.1)
    raise AssertionError("no answer after 30 s")


def test_no_torch_in_the_tokenizer_process(services):
    maps = Path(f"/proc/{services[0].process.pid}/maps").read_text()
    assert "tokenizers" in maps
    assert "libtorch" not in maps


@pytest.mark.parametrize("flags", [(), ("--busy-poll-ms=5",)], ids=["sleeping", "polling-busily"])
def test_both_services_answer_and_end_with_status_0_on_sigterm(flags):
    with _services(*flags, tokenizer_flags=flags) as (tokenizer, engine):
        with tandem.Client(tokenizer.address) as client:
            assert "46" in client.chat([{"role": "user", "content": "What is 12 + 34?"}], temperature=0).text
        assert tokenizer.terminate() == 0
        assert engine.terminate() == 0
