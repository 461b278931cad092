"""Wrong messages to every method of both services: documented statuses, and nothing left behind.

TANDEM_FUZZ_BYTES says how much input, 150,000 bytes by default; TANDEM_FUZZ_SEED which.
"""

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, strategies as st

import tandem
from support.fuzz_calls import Attempt, Seen, make
from support.fuzz_seeds import METHODS
from support.message_mutation import mutated
from support.processes import running_service
from support.seeing_model import seeing_model, write_seeing_model
from support.status_table import documented_statuses
from tandem.engine.v1 import engine_pb2, engine_pb2_grpc
from tandem.v1 import inference_pb2
from tandem_bench.process_table import Process, processes_below

NUM_BYTES = int(os.environ.get("TANDEM_FUZZ_BYTES", "150000"))
SEED = int(os.environ.get("TANDEM_FUZZ_SEED", "0"))
EXAMPLES_A_ROUND = 100
MAX_TOGETHER = 6
# Allocators settle, and the caches of images and prefixes fill; what leaks with every message is far more.
MAX_GROWTH_BYTES = 128 << 20
FLAGS = ("--kv-cache-mib=8", "--image-cache-mib=8", "--image-pixels-mib=8")


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    directory = write_seeing_model(seeing_model(), tmp_path_factory.mktemp("fuzzed"))
    flag = f"--model={directory}"
    with (
        running_service("engine_service", flag, *FLAGS) as engine,
        running_service("tokenizer_service", f"--engine={engine.address}", flag) as tokenizer,
    ):
        yield tokenizer, engine


def attempts():
    return st.sampled_from(METHODS).flatmap(_attempts_of)


def _attempts_of(method):
    messages = mutated(method.seeds)
    if not method.is_stream:
        return st.builds(Attempt, st.just(method), st.tuples(messages))
    first = tuple(each.SerializeToString() for each in method.first)
    starts = st.sampled_from([first, first, ()])
    several = st.tuples(starts, st.lists(messages, max_size=6)).map(lambda parts: (*parts[0], *parts[1]))
    return st.builds(Attempt, st.just(method), several, leaves=st.sampled_from([False, False, True]))


def fuzz(addresses, num_bytes, seed):
    """Makes calls, a few at once, until enough input went in; what came of them."""
    total = Seen()
    with contextlib.ExitStack() as stack:
        channels = {
            name: stack.enter_context(grpc.insecure_channel(address)) for name, address in addresses.items()
        }
        pool = stack.enter_context(ThreadPoolExecutor(MAX_TOGETHER))

        @hypothesis.settings(
            max_examples=EXAMPLES_A_ROUND,
            deadline=None,
            database=None,
            # What fails depends on what came before, so smaller examples say nothing.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(st.lists(attempts(), min_size=1, max_size=MAX_TOGETHER))
        def one_round(together):
            for seen in pool.map(lambda each: make(each, channels[each.method.service]), together):
                total.add(seen)

        while total.num_bytes < num_bytes:
            hypothesis.seed(seed)(one_round)()
            seed += 1
    return total


def _answer(address):
    with tandem.Client(address) as client:
        answer = client.generate("the quick fox", max_tokens=9, temperature=0, return_token_ids=True)
    return answer.token_ids, answer.text


def _processes(services) -> list[Process]:
    return [each for service in services for each in processes_below(service.process.pid)]


def _assert_idle(address):
    with grpc.insecure_channel(address) as channel:
        stub = engine_pb2_grpc.EngineStub(channel)
        for _ in range(200):
            load = stub.GetLoad(engine_pb2.GetLoadRequest()).load
            if (load.num_running, load.num_waiting, load.num_free_blocks) == (0, 0, load.num_blocks):
                return
            time.sleep(0.05)
    raise AssertionError(f"the idle engine is not free: {load}")


def _assert_no_traceback(log: Path):
    text = log.read_text()
    assert "Traceback" not in text, text[text.index("Traceback") :][:6000]


@pytest.mark.timeout(120 + NUM_BYTES // 1000)
def test_wrong_messages_get_documented_statuses_and_leave_nothing_behind(services):
    tokenizer, engine = services
    addresses = {"tandem.v1.Inference": tokenizer.address, "tandem.engine.v1.Engine": engine.address}
    fuzz(addresses, NUM_BYTES // 10, SEED - 1)
    answer, before = _answer(tokenizer.address), _processes(services)
    start_s = time.monotonic()
    seen = fuzz(addresses, NUM_BYTES, SEED)
    print(f"{seen} in {time.monotonic() - start_s:.0f} s")
    for service in services:
        _assert_no_traceback(service.log)
    for service, documented in documented_statuses().items():
        found = {status for each, status in seen.statuses if each == service}
        assert {"OK", "INVALID_ARGUMENT"} <= found <= documented - {"INTERNAL"}
    assert _answer(tokenizer.address) == answer
    _assert_idle(engine.address)
    after = _processes(services)
    assert [each.pid for each in after] == [each.pid for each in before]
    for old, new in zip(before, after, strict=True):
        assert new.rss_bytes - old.rss_bytes < MAX_GROWTH_BYTES, (old, new)


def test_a_stream_that_breaks_while_a_request_on_it_fails_ends_at_once(services):
    (method,) = (each for each in METHODS if each.path.endswith("/GenerateMany"))
    without_input = inference_pb2.GenerateManyRequest(generate={"request_id": "a"}).SerializeToString()
    attempt = Attempt(method, (without_input, b"\xff"))
    with grpc.insecure_channel(services[0].address) as channel, ThreadPoolExecutor(MAX_TOGETHER) as pool:
        for seen in pool.map(lambda _: make(attempt, channel), range(600)):
            assert set(seen.statuses) == {(method.service, "INVALID_ARGUMENT")}
    _assert_no_traceback(services[0].log)
