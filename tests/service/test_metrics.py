"""What both services tell Prometheus, beside what their clients saw."""

import asyncio
import contextlib
import os
import signal
import socket
from pathlib import Path

import grpc
import pytest

import tandem
from support.metrics_page import by_label, metrics_url, scrape, value, wait_for
from support.processes import running_service
from support.scripted_engine import STOP_TOKEN
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import encode, events_of, generate_request, serving
from tandem.engine.v1 import engine_pb2, engine_pb2_grpc

METRICS = "--metrics-listen=127.0.0.1:0"
PROMPT = "Once upon a time there was a fox who lived in the woods behind the mill. " * 2


@contextlib.contextmanager
def _services(*engine_flags, tokenizer_flags=()):
    with (
        running_service("engine_service", "--fake", METRICS, *engine_flags) as engine,
        running_service(
            "tokenizer_service", f"--engine={engine.address}", METRICS, *tokenizer_flags
        ) as tokenizer,
        tandem.Client(tokenizer.address, retries=0) as client,
    ):
        yield client, tokenizer, engine


@pytest.fixture(scope="module")
def seen():
    """Completions, the number of tokens that a cancelled answer showed, and both pages afterwards."""
    flags = ("--fake-rate=200", "--max-num-seqs=1", "--max-num-waiting=1", "--kv-block-size=16")
    with _services(*flags) as (client, tokenizer, engine):
        tokenizer_url, engine_url = metrics_url(tokenizer.log), metrics_url(engine.log)
        completions = [client.generate(PROMPT, max_tokens=count, ignore_eos=True) for count in (5, 9)]
        completions.append(client.generate(PROMPT, max_tokens=8, n=2, ignore_eos=True))
        with pytest.raises(tandem.InvalidRequestError):
            client.generate(PROMPT, top_p=2)
        with pytest.raises(tandem.OverloadedError):
            client.generate(PROMPT, max_tokens=8, n=3)
        with client.stream(PROMPT, max_tokens=900, ignore_eos=True) as stream:
            num_shown = next(event for event in stream if isinstance(event, tandem.Delta)).num_tokens
        wait_for(tokenizer_url, "tandem_tokenizer_requests_total", 1, method="Generate", outcome="CANCELLED")
        many = [tandem.Request("hello", max_tokens=3, ignore_eos=True), tandem.Request("hello", top_k=-1)]
        completions += [result.completion for result in client.generate_many(many) if result.completion]
        wait_for(engine_url, "tandem_engine_running_sequences", 0)
        yield completions, num_shown, scrape(tokenizer_url), scrape(engine_url)


def test_requests_are_counted_by_how_they_ended(seen):
    _, _, tokenizer, _ = seen
    assert by_label(tokenizer, "tandem_tokenizer_requests_total", "method", "outcome") == {
        ("Generate", "OK"): 3,
        ("Generate", "INVALID_ARGUMENT"): 1,
        ("Generate", "RESOURCE_EXHAUSTED"): 1,
        ("Generate", "CANCELLED"): 1,
        ("GenerateMany", "OK"): 1,
        ("GenerateMany", "INVALID_ARGUMENT"): 1,
    }
    assert by_label(tokenizer, "tandem_tokenizer_answers_total", "reason") == {("length",): 5}
    assert value(tokenizer, "tandem_tokenizer_running_requests") == 0
    assert value(tokenizer, "tandem_tokenizer_request_seconds_count") == 8
    assert value(tokenizer, "tandem_tokenizer_engine_connections") == 1


def test_tokens_are_those_that_clients_saw(seen):
    completions, num_shown, tokenizer, engine = seen
    answers = [answer for completion in completions for answer in completion.answers]
    assert len(answers) == 5
    num_completion = sum(answer.usage.completion_tokens for answer in answers)
    assert num_completion == 5 + 9 + 2 * 8 + 3
    # The service may have sent more of the cancelled answer than its client read.
    num_more = value(tokenizer, "tandem_tokenizer_completion_tokens_total") - num_completion
    assert num_shown <= num_more < 900
    assert value(engine, "tandem_engine_output_tokens_total") >= num_completion + num_shown


def test_latencies_are_counted_once_for_each_answer(seen):
    _, _, tokenizer, engine = seen
    for name in ("queue", "prefill", "decode"):
        assert value(tokenizer, f"tandem_tokenizer_{name}_seconds_count") == 5, name
    assert value(tokenizer, "tandem_tokenizer_time_to_first_token_seconds_count") == 6
    assert value(engine, "tandem_engine_step_seconds_count") >= 900 / 200
    # At 200 tokens/s a decode of 9 tokens takes 40 ms, and steps take 5 ms.
    assert value(tokenizer, "tandem_tokenizer_decode_seconds_sum") > 0.04
    mean_s = value(engine, "tandem_engine_step_seconds_sum") / value(
        engine, "tandem_engine_step_seconds_count"
    )
    assert mean_s > 0.002


def test_the_engine_counts_sequences_rejects_and_the_prefix_cache(seen):
    _, _, tokenizer, engine = seen
    # The request of three was refused for its third: the other two ended with it.
    assert by_label(engine, "tandem_engine_rejects_total", "reason") == {("RESOURCE_EXHAUSTED",): 1}
    assert by_label(engine, "tandem_engine_sequences_total", "reason") == {("length",): 5, ("ended",): 3}
    cached = value(engine, "tandem_engine_cached_tokens_total")
    assert cached > 0
    assert cached % 16 == 0
    assert value(tokenizer, "tandem_tokenizer_cached_tokens_total") <= cached
    assert value(engine, "tandem_engine_prompt_tokens_total") <= cached + value(
        engine, "tandem_engine_prefill_tokens_total"
    )
    assert value(engine, "tandem_engine_up") == 1
    assert value(engine, "tandem_engine_sessions") == 1
    assert value(engine, "tandem_engine_kv_free_blocks") == value(engine, "tandem_engine_kv_blocks") > 0


async def _three_tokens_and_no_end(link, submit):
    await link.step(submit.sequence, encode("the quick fox")[:3], starts=True)
    await link.until(lambda: bool(link.cancels))


@pytest.mark.parametrize(
    ("timeout_s", "outcome"),
    [pytest.param(None, "CANCELLED", id="cancelled"), pytest.param(1.0, "DEADLINE_EXCEEDED", id="late")],
)
def test_an_answer_that_was_cut_off_counts_what_its_client_saw(tmp_path, timeout_s, outcome):
    write_model_dir(tmp_path, byte_level(), "")
    listen = f"127.0.0.1:{_free_port()}"

    async def main():
        async with serving(tmp_path, _three_tokens_and_no_end, metrics_listen=listen) as service:
            call = service.stub.Generate(generate_request(), timeout=timeout_s)
            num_tokens = 0
            while num_tokens < 3:
                num_tokens += (await call.read()).delta.num_tokens
            if timeout_s is None:
                call.cancel()
            labels = {"method": "Generate", "outcome": outcome}
            return await asyncio.to_thread(
                wait_for, f"http://{listen}/metrics", "tandem_tokenizer_requests_total", 1, **labels
            )

    page = asyncio.run(main())
    assert value(page, "tandem_tokenizer_completion_tokens_total") == 3
    assert value(page, "tandem_tokenizer_prompt_tokens_total") == len(encode("the quick fox"))
    assert value(page, "tandem_tokenizer_cached_tokens_total") == 2
    assert value(page, "tandem_tokenizer_running_requests") == 0
    assert by_label(page, "tandem_tokenizer_answers_total", "reason") == {}


async def _three_tokens_and_a_stop_token(link, submit):
    stop = submit.spec.stop_token_ids[0]
    await link.step(submit.sequence, [*encode("the quick fox")[:3], stop], starts=True, finish=STOP_TOKEN)


def test_tokens_that_a_resumed_call_left_out_are_not_counted(tmp_path):
    write_model_dir(tmp_path, byte_level(), "")
    listen = f"127.0.0.1:{_free_port()}"
    request = generate_request(
        request_id="mine", stop={"token_ids": encode("dog")[:1]}, resume={"linger": {"seconds": 60}}
    )

    async def main():
        async with serving(tmp_path, _three_tokens_and_a_stop_token, metrics_listen=listen) as service:
            for after_tokens in (0, 2, 3):
                request.resume.after_tokens = after_tokens
                events = await events_of(service.stub.Generate(request))
                assert sum(event.delta.num_tokens for event in events) == 3 - after_tokens
                assert events[-1].finished.usage.completion_tokens == 4
            return await asyncio.to_thread(scrape, f"http://{listen}/metrics")

    # Each call saw the end, whose token is in no delta.
    assert value(asyncio.run(main()), "tandem_tokenizer_completion_tokens_total") == 4 + 2 + 1


def test_a_dead_core_is_counted_and_its_sequences_are_lost_and_go_on():
    with _services("--fake-rate=20") as (client, tokenizer, engine):
        url = metrics_url(engine.log)
        with client.stream("hello", max_tokens=900, ignore_eos=True) as stream:
            events = iter(stream)
            assert any(isinstance(event, tandem.Delta) for event in events)
            _kill_core(engine.address)
            wait_for(metrics_url(tokenizer.log), "tandem_tokenizer_engine_connects_total", 2)
            for _ in range(10):
                next(events)
        page = wait_for(url, "tandem_engine_sequences_total", 1, reason="ended")
        assert value(page, "tandem_engine_core_deaths_total") == 1
        assert by_label(page, "tandem_engine_sequences_total", "reason") == {("lost",): 1, ("ended",): 1}
        wait_for(url, "tandem_engine_running_sequences", 0)
        before = value(scrape(url), "tandem_engine_output_tokens_total")
        assert client.generate("hello", max_tokens=3, ignore_eos=True).usage.completion_tokens == 3
        # The new core counts from 0; what is served goes on.
        assert value(scrape(url), "tandem_engine_output_tokens_total") == before + 3


def _kill_core(address):
    with grpc.insecure_channel(address) as channel:
        stub = engine_pb2_grpc.EngineStub(channel)
        epoch = stub.GetEngineInfo(engine_pb2.GetEngineInfoRequest()).info.epoch
    os.kill(int(epoch.split("-")[0]), signal.SIGKILL)


def test_workers_add_up_and_a_dead_one_leaves_its_counts_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    address = f"127.0.0.1:{_free_port()}"
    with running_service("engine_service", "--fake", "--fake-rate=0") as engine:
        flags = (f"--engine={engine.address}", f"--listen={address}", "--workers=2", METRICS)
        with running_service("tokenizer_service", *flags, wait=False) as service:
            url = metrics_url(service.log)
            wait_for(url, "tandem_tokenizer_engine_connections", 2, timeout_s=60)
            _ask(address, 10)
            count = {"method": "Generate", "outcome": "OK"}
            assert value(scrape(url), "tandem_tokenizer_requests_total", **count) == 10
            os.kill(_children_of(service.process.pid)[0], signal.SIGKILL)
            wait_for(url, "tandem_tokenizer_worker_deaths_total", 1)
            page = wait_for(url, "tandem_tokenizer_engine_connections", 2, timeout_s=60)
            assert value(page, "tandem_tokenizer_workers") == 2
            assert value(page, "tandem_tokenizer_engine_connects_total") == 3
            _ask(address, 5)
            page = wait_for(url, "tandem_tokenizer_requests_total", 15, **count)
            assert value(page, "tandem_tokenizer_completion_tokens_total") == 15 * 3
            wait_for(url, "tandem_tokenizer_calls_total", 15, method="Generate", code="OK")
            assert value(page, "tandem_tokenizer_running_requests") == 0
            assert list(tmp_path.glob("tandem-metrics-*"))
            assert service.terminate() == 0
            assert not list(tmp_path.glob("tandem-metrics-*"))


def _ask(address, count):
    """Asks over connections of their own, which the kernel spreads over the workers."""
    for _ in range(count):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with tandem.Client(address, options=options) as client:
            assert client.generate("hello", max_tokens=3, ignore_eos=True).usage.completion_tokens == 3


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _children_of(pid):
    """Process ids; Linux only."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_an_address_that_is_taken_ends_the_start_with_a_line(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        flag = f"--metrics-listen=127.0.0.1:{taken.getsockname()[1]}"
        for module in ("engine_service", "tokenizer_service"):
            with running_service(module, flag, wait=False) as service:
                assert service.process.wait(60) in (1, 2)
                assert "cannot listen there" in service.log.read_text()
                assert "Traceback" not in service.log.read_text()
