"""How services end: lame duck, draining, grace, being told twice, and a parent that is gone."""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.cli_process import TANDEM, TIMEOUT_S, environment
from support.processes import Service, children_of, family_of, running_service, wait_until_gone
from tandem.cli.services import free_address
from tandem.engine.v1 import engine_pb2, engine_pb2_grpc
from tandem.v1 import error_pb2, inference_pb2, inference_pb2_grpc

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Tokens per second of a call: one that shall last does so for seconds.
RATE = 50
FAKE_ENGINE = ("engine_service", "--fake", f"--fake-rate={RATE}")
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


@dataclass
class Ending:
    """A service that a test ends.

    Attributes:
        channel: To it.
        method: Starts a stream.
    """

    service: Service
    channel: grpc.Channel
    method: Any

    def call(self, num_tokens: int) -> Any:
        return self.method(num_tokens)

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.service.process.send_signal(number)

    def health(self) -> int:
        return health_pb2_grpc.HealthStub(self.channel).Check(health_pb2.HealthCheckRequest()).status

    def wait_until_not_serving(self) -> None:
        for response in health_pb2_grpc.HealthStub(self.channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=10
        ):
            if response.status == NOT_SERVING:
                return

    def wait_until_refused(self) -> grpc.RpcError:
        """The first refusal of a new call."""
        deadline_s = time.monotonic() + 10
        while time.monotonic() < deadline_s:
            try:
                list(self.call(1))
            except grpc.RpcError as error:
                return error
        raise AssertionError("calls are still taken after 10 s")


def _engine_method(channel: grpc.Channel) -> Any:
    generate = engine_pb2_grpc.EngineStub(channel).Generate

    def start(num_tokens: int) -> Any:
        spec = engine_pb2.SequenceSpec(token_ids=[7, 8, 9], max_tokens=num_tokens, ignore_eos=True)
        return generate(engine_pb2.GenerateRequest(spec=spec), timeout=60)

    return start


def _tokenizer_method(channel: grpc.Channel) -> Any:
    generate = inference_pb2_grpc.InferenceStub(channel).Generate

    def start(num_tokens: int) -> Any:
        stop = {"max_tokens": num_tokens, "ignore_eos": True}
        return generate(inference_pb2.GenerateRequest(prompt="one two three", stop=stop), timeout=60)

    return start


@pytest.fixture(scope="module")
def engine():
    """For tokenizer services; it outlives them."""
    with running_service(*FAKE_ENGINE) as service:
        yield service


@pytest.fixture
def start(engine):
    """Starts the service that a test ends."""
    with contextlib.ExitStack() as stack:

        def start(module: str, *flags: str) -> Ending:
            is_engine = module == "engine_service"
            command = FAKE_ENGINE if is_engine else (module, f"--engine={engine.address}")
            service = stack.enter_context(running_service(*command, *flags))
            channel = stack.enter_context(grpc.insecure_channel(service.address))
            method = _engine_method if is_engine else _tokenizer_method
            return Ending(service, channel, method(channel))

        yield start


BOTH = pytest.mark.parametrize("module", ["engine_service", "tokenizer_service"])


def _retry_types(error: grpc.RpcError) -> list[str]:
    trailer = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    return [detail.type_url for detail in error_pb2.Status.FromString(trailer).details]


@BOTH
def test_a_lame_duck_takes_calls_then_drains_then_exits_with_0(start, module):
    ending = start(module, "--lame-duck-s=1")
    running = ending.call(4 * RATE)
    next(running)
    ending.signal()
    ending.wait_until_not_serving()
    assert list(ending.call(1))  # still taken
    refusal = ending.wait_until_refused()
    assert refusal.code() is grpc.StatusCode.UNAVAILABLE
    assert _retry_types(refusal) == [RETRY_INFO]
    assert ending.health() == NOT_SERVING
    assert list(running)  # ends with OK
    assert ending.service.process.wait(20) == 0
    states = [line for line in ending.service.log.read_text().splitlines() if "->" in line]
    assert len(states) == 3


@BOTH
def test_what_still_runs_when_the_grace_time_is_over_ends_unavailable(start, module):
    ending = start(module, "--grace-s=0.3")
    running = ending.call(500)
    next(running)
    ending.signal()
    with pytest.raises(grpc.RpcError) as error:
        list(running)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert RETRY_INFO in _retry_types(error.value)
    assert ending.service.process.wait(20) == 0


@pytest.mark.parametrize(
    ("module", "number"), [("engine_service", signal.SIGINT), ("tokenizer_service", signal.SIGTERM)]
)
def test_the_second_signal_ends_the_process_at_once_and_its_core_too(start, module, number):
    ending = start(module)
    running = ending.call(500)
    next(running)
    family = family_of(ending.service.process.pid)
    ending.signal()
    ending.wait_until_refused()
    ending.signal(number)
    assert ending.service.process.wait(5) == -number
    wait_until_gone(family)
    with pytest.raises(grpc.RpcError) as error:
        list(running)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE


@BOTH
def test_the_end_of_the_input_is_like_sigterm(start, module):
    ending = start(module, "--ends-with-input")
    running = ending.call(RATE)
    next(running)
    ending.service.process.stdin.close()
    assert list(running)
    assert ending.service.process.wait(20) == 0


def test_the_end_of_the_input_after_sigterm_ends_the_process_at_once(start):
    ending = start("engine_service", "--ends-with-input")
    running = ending.call(500)
    next(running)
    ending.signal()
    ending.wait_until_refused()
    ending.service.process.stdin.close()
    assert ending.service.process.wait(5) == -signal.SIGTERM


def test_a_core_in_a_long_step_does_not_outlive_its_server():
    with running_service("engine_service", "--fake", "--fake-rate=0.01") as service:
        with grpc.insecure_channel(service.address) as channel:
            running = _engine_method(channel)(5)
            next(running)
            core = children_of(service.process.pid)
            time.sleep(0.5)  # by now the core waits for its step, for 100 s
            service.process.kill()
        wait_until_gone(core)


def test_sigterm_ends_an_engine_whose_core_is_stopped():
    with running_service("engine_service", "--fake") as service:
        with grpc.insecure_channel(service.address) as channel:
            epoch = engine_pb2_grpc.EngineStub(channel).GetEngineInfo(engine_pb2.GetEngineInfoRequest()).info
        os.kill(int(epoch.epoch.split("-")[0]), signal.SIGSTOP)
        assert service.terminate(10) == 0


@contextlib.contextmanager
def _serving(*flags: str) -> Any:
    """`tandem serve` with a fake engine and two workers, and the processes below it."""
    command = [*TANDEM, "serve", "--listen", free_address(), "--engine-listen", free_address(), "--fake"]
    process = subprocess.Popen(
        [*command, "--workers=2", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
        text=True,
    )
    try:
        address = process.stdout.readline().split()[0]
        yield process, address, family_of(process.pid)
    finally:
        process.kill()
        process.communicate(timeout=TIMEOUT_S)


def test_a_killed_serve_leaves_no_process_behind():
    with _serving() as (process, _, family):
        assert len(family) >= 6  # itself, engine, core, workers' parent, two workers
        process.kill()
        wait_until_gone(family)


def test_the_second_signal_ends_serve_and_all_below_it_at_once():
    with (
        _serving("--engine-flag=--fake-rate=10") as (process, address, family),
        grpc.insecure_channel(address) as channel,
    ):
        running = _tokenizer_method(channel)(900)
        next(running)
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.terminate()
        assert process.wait(5) == -signal.SIGTERM
        wait_until_gone(family)
