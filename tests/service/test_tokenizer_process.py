"""`python -m tokenizer_service` as a process: start, workers, signals, and what it must not import."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.processes import children_of
from support.scripted_engine import LENGTH, ScriptedEngine, running_engine
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import VOCAB_SIZE, encode, events_of, generate_request
from tandem.v1 import inference_pb2, inference_pb2_grpc

ROOT = Path(__file__).parents[2]
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
# Runs the service in this process and then says which of torch's modules it has.
WATCHED = """
import sys
from tokenizer_service.__main__ import main
status = main(sys.argv[1:])
print("torch modules:", [name for name, module in sys.modules.items() if name.startswith("torch") and module])
sys.exit(status)
"""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model_dir(tmp_path_factory.mktemp("small"), byte_level(), TEMPLATE)


async def dog(link, submit):
    await link.step(submit.sequence, encode("dog"), starts=True, finish=LENGTH)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.asynccontextmanager
async def process(*command):
    """A Python process with its output piped; killed if the test leaves it alive."""
    path = os.pathsep.join([str(ROOT), *(str(ROOT / room) for room in ("clients", "kernels", "demo"))])
    found = await asyncio.create_subprocess_exec(
        sys.executable,
        *command,
        env={**os.environ, "PYTHONPATH": path},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield found
    finally:
        if found.returncode is None:
            found.terminate()
            await found.communicate()


async def listening_address(found):
    """Reads the line that says where the service listens."""
    line = (await found.stdout.readline()).decode()
    assert line.startswith("tokenizer service listens on "), line
    return line.removeprefix("tokenizer service listens on ").partition(",")[0]


async def until_serving(channel):
    async for response in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()):
        if response.status == health_pb2.HealthCheckResponse.SERVING:
            return


def flags(model_dir, engine_address, **more):
    values = {"model": model_dir, "listen": "127.0.0.1:0", "engine": engine_address, **more}
    return [f"--{name.replace('_', '-')}={value}" for name, value in values.items()]


def test_serves_chats_without_torch_and_exits_with_0(model_dir):
    async def main():
        engine_address = f"unix:{model_dir}/engine.sock"
        async with (
            running_engine(ScriptedEngine(dog, VOCAB_SIZE), engine_address),
            process("-c", WATCHED, *flags(model_dir, engine_address)) as found,
        ):
            async with grpc.aio.insecure_channel(await listening_address(found)) as channel:
                await until_serving(channel)
                chat = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
                request = inference_pb2.GenerateRequest(chat=chat)
                events = await events_of(inference_pb2_grpc.InferenceStub(channel).Generate(request))
            found.send_signal(signal.SIGTERM)
            output, _ = await found.communicate()
            return events, output.decode(), found.returncode

    events, output, status = asyncio.run(main())
    assert "".join(event.delta.text for event in events) == "dog"
    assert output == "torch modules: []\n"
    assert status == 0


def test_sigterm_lets_the_running_request_finish(model_dir):
    async def main():
        may_finish = asyncio.Event()

        async def script(link, submit):
            await link.step(submit.sequence, encode("dog"), starts=True)
            await may_finish.wait()
            await link.step(submit.sequence, encode("dog"), finish=LENGTH)

        engine_address = f"unix:{model_dir}/engine-drain.sock"
        async with (
            running_engine(ScriptedEngine(script, VOCAB_SIZE), engine_address),
            process("-m", "tokenizer_service", *flags(model_dir, engine_address)) as found,
            grpc.aio.insecure_channel(await listening_address(found)) as channel,
        ):
            await until_serving(channel)
            call = inference_pb2_grpc.InferenceStub(channel).Generate(generate_request())
            many = inference_pb2_grpc.InferenceStub(channel).GenerateMany()
            await many.write(inference_pb2.GenerateManyRequest(generate=generate_request(request_id="a")))
            events, many_events = [await anext(aiter(call))], [await anext(aiter(many))]
            found.send_signal(signal.SIGTERM)
            while b"DRAINING" not in (await found.stderr.readline()):
                pass
            may_finish.set()
            events += await events_of(call)
            with contextlib.suppress(grpc.aio.AioRpcError):
                while True:
                    many_events.append(await anext(aiter(many)))
            return events, many_events, await many.code(), await found.wait()

    events, many_events, code, status = asyncio.run(main())
    assert events[-1].HasField("finished")
    assert many_events[-1].HasField("finished")
    assert code == grpc.StatusCode.UNAVAILABLE
    assert status == 0


def test_an_engine_with_another_model_ends_the_process_with_one_line(model_dir):
    async def main():
        engine_address = f"unix:{model_dir}/engine-other.sock"
        engine = ScriptedEngine(dog, VOCAB_SIZE)
        engine.refusal = "the tokenizer's vocabulary is not the model's"
        async with (
            running_engine(engine, engine_address),
            process("-m", "tokenizer_service", *flags(model_dir, engine_address)) as found,
        ):
            _, errors = await found.communicate()
            return errors.decode(), found.returncode, engine.hellos[0].fingerprint

    errors, status, fingerprint = asyncio.run(main())
    assert status == 2
    assert "the tokenizer's vocabulary is not the model's" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert fingerprint.vocab_size == VOCAB_SIZE
    assert list(fingerprint.eos_token_ids) == [1]
    assert len(fingerprint.tokenizer_sha256) == 32


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "/no/such/model!"}, "/no/such/model!"),
        ({"workers": 2}, "port that they can share"),
        ({"workers": 0}, "workers=0: must be at least 1"),
        ({"default_top_p": 2}, "sampling.top_p: 2 is not in (0, 1]"),
    ],
    ids=["no-model", "workers-on-port-0", "no-workers", "default-out-of-bounds"],
)
def test_wrong_flags_are_one_clear_line(model_dir, changes, said):
    async def main():
        arguments = flags(model_dir, "unix:/nowhere", **changes)
        async with process("-m", "tokenizer_service", *arguments) as found:
            _, errors = await found.communicate()
            return errors.decode(), found.returncode

    errors, status = asyncio.run(main())
    assert status == 2
    assert said in errors.splitlines()[-1]
    assert "Traceback" not in errors


def test_workers_share_the_port_are_replaced_and_end_together(model_dir):
    async def main():
        engine_address = f"unix:{model_dir}/engine-workers.sock"
        address = f"127.0.0.1:{free_port()}"
        engine = ScriptedEngine(dog, VOCAB_SIZE)
        arguments = flags(model_dir, engine_address, listen=address, workers=2)
        async with (
            running_engine(engine, engine_address),
            process("-m", "tokenizer_service", *arguments) as found,
        ):
            assert [await listening_address(found) for _ in range(2)] == [address] * 2
            os.kill(children_of(found.pid)[0], signal.SIGKILL)
            assert await listening_address(found) == address
            async with grpc.aio.insecure_channel(address) as channel:
                await until_serving(channel)
                stub = inference_pb2_grpc.InferenceStub(channel)
                events = await events_of(stub.Generate(generate_request()))
            workers = children_of(found.pid)
            found.send_signal(signal.SIGTERM)
            await found.communicate()
            return events, workers, found.returncode

    events, workers, status = asyncio.run(main())
    assert events[-1].HasField("finished")
    assert len(workers) == 2
    assert status == 0
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


def test_workers_do_not_outlive_their_parent(model_dir):
    async def main():
        address = f"127.0.0.1:{free_port()}"
        arguments = flags(model_dir, "unix:/nowhere", listen=address, workers=2)
        async with process("-m", "tokenizer_service", *arguments) as found:
            for _ in range(2):
                await listening_address(found)
            found.kill()
            # The output ends when the last process that holds it has ended.
            await found.stdout.read()
            return found.returncode

    assert asyncio.run(main()) == -signal.SIGKILL
