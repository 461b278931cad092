"""A core that says nothing is replaced; one that has nothing to say, or much to do, is not."""

import os
import signal
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.processes import running_service, wait_until_gone
from tandem.engine.v1 import engine_pb2 as pb, engine_pb2_grpc

TIMEOUT_S = 1.5
SERVING, NOT_SERVING = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
)
# Prompts are computed one token a step, within one block: such a step brings no news.
FLAGS = (
    "--fake", "--fake-rate=5", f"--heartbeat-timeout-s={TIMEOUT_S}", "--max-prefill-tokens=1",
    "--kv-block-size=128",
)  # fmt: skip


@pytest.fixture(scope="module")
def engine():
    with (
        running_service("engine_service", *FLAGS) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        yield channel


def _epoch(channel):
    return engine_pb2_grpc.EngineStub(channel).GetEngineInfo(pb.GetEngineInfoRequest()).info.epoch


def _generate(channel, prompt, max_tokens):
    spec = pb.SequenceSpec(token_ids=prompt, max_tokens=max_tokens, ignore_eos=True)
    return engine_pb2_grpc.EngineStub(channel).Generate(pb.GenerateRequest(spec=spec), timeout=60)


def test_an_idle_core_beats(engine):
    epoch = _epoch(engine)
    time.sleep(2 * TIMEOUT_S)
    assert _epoch(engine) == epoch


def test_steps_without_news_beat(engine):
    epoch = _epoch(engine)
    start_s = time.monotonic()
    assert len(list(_generate(engine, range(7, 7 + 20), 1))) == 1
    assert time.monotonic() - start_s > 2 * TIMEOUT_S
    assert _epoch(engine) == epoch


@pytest.mark.parametrize("is_busy", [True, False], ids=["busy", "idle"])
def test_a_stopped_core_is_replaced_and_health_says_so(engine, is_busy):
    epoch = _epoch(engine)
    core = int(epoch.split("-")[0])
    running = _generate(engine, [7], 100)
    if is_busy:
        next(running)
    else:
        running.cancel()
    watch = health_pb2_grpc.HealthStub(engine).Watch(health_pb2.HealthCheckRequest(), timeout=60)
    assert next(watch).status == SERVING
    os.kill(core, signal.SIGSTOP)
    assert next(watch).status == NOT_SERVING
    wait_until_gone([core])
    with pytest.raises(grpc.RpcError) as error:
        list(running)
    expected = grpc.StatusCode.UNAVAILABLE if is_busy else grpc.StatusCode.CANCELLED
    assert error.value.code() is expected
    assert next(watch).status == SERVING
    watch.cancel()
    assert _epoch(engine) != epoch
    assert len(list(_generate(engine, [7], 1))) == 1
