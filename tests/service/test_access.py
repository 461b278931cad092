"""Who gets in with tokens, what is said to the others, and that tokens stay secret."""

import asyncio
import contextlib
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import tandem
from support.cli_process import tandem as tandem_command
from support.processes import running_service
from support.scripted_engine import LENGTH
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import encode, serving
from support.tokens import TOKEN, write_tokens
from tandem.engine.v1 import engine_pb2
from tandem.v1 import inference_pb2
from tandem_service.grpc_server import options, running_server
from tandem_service.server_config import ServerConfig

WAIT_S = 10
SENTENCE = "a valid token is needed, as metadata authorization: Bearer TOKEN"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
METHODS = {
    "tokenizer_service": [
        f"/tandem.v1.Inference/{each.name}"
        for each in inference_pb2.DESCRIPTOR.services_by_name["Inference"].methods
    ],
    "engine_service": [
        f"/tandem.engine.v1.Engine/{each.name}"
        for each in engine_pb2.DESCRIPTOR.services_by_name["Engine"].methods
    ],
}
# A service whose own logs are as loud as they can be.
LOUD = """
import sys
from tokenizer_service import __main__ as service
from tandem_service.logs import set_up_logging
service.set_up_logging = lambda *given: set_up_logging("DEBUG")
sys.exit(service.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model_dir(tmp_path_factory.mktemp("small"), byte_level(), "x")


async def dog(link, submit):
    await link.step(submit.sequence, encode("dog"), starts=True, finish=LENGTH)


@contextlib.contextmanager
def guarded_services(tokens):
    """A fake engine, and a tokenizer service that shows it a token; yields both."""
    token_file = Path(tokens).with_name("engine-token")
    token_file.write_text(TOKEN + "\n")
    flags = (f"--tokens={tokens}", f"--engine-token-file={token_file}")
    with (
        running_service("engine_service", "--fake", f"--tokens={tokens}") as engine,
        running_service("tokenizer_service", "--engine", engine.address, *flags) as tokenizer,
    ):
        yield {"engine_service": engine, "tokenizer_service": tokenizer}


def refusal(channel, method, metadata=()):
    """Status and words with which a call ends that has sent nothing yet."""
    call = channel.stream_stream(method)(iter(()), timeout=WAIT_S, metadata=metadata)
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    return caught.value.code(), caught.value.details()


@pytest.mark.parametrize("module", METHODS)
def test_without_a_token_health_alone_answers(module, tmp_path):
    tokens = write_tokens(tmp_path / "tokens.toml")
    flags = ("--fake",) if module == "engine_service" else ("--engine=unix:/nowhere",)
    wait = module == "engine_service"
    with (
        running_service(module, *flags, f"--tokens={tokens}", wait=wait) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        health.Check(health_pb2.HealthCheckRequest(), timeout=WAIT_S * 6, wait_for_ready=True)
        for method in [*METHODS[module], REFLECTION, "/tandem.v1.Inference/Unknown"]:
            for metadata in ((), (("authorization", "Bearer wrong"),), (("authorization", TOKEN),)):
                assert refusal(channel, method, metadata) == (grpc.StatusCode.UNAUTHENTICATED, SENTENCE)
        listing = reflection_pb2.ServerReflectionRequest(list_services="")
        shown = (("authorization", f"Bearer {TOKEN}"),)
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        assert list(stub.ServerReflectionInfo(iter([listing]), timeout=WAIT_S, metadata=shown))


def test_a_token_opens_every_method_and_the_engine(tmp_path):
    with guarded_services(write_tokens(tmp_path / "tokens.toml")) as services:
        address = services["tokenizer_service"].address
        requests = [tandem.Request(prompt, max_tokens=2) for prompt in ("one", "two")]

        async def ask():
            async with tandem.AsyncClient(address, token=TOKEN) as client:
                many = [result async for result in client.generate_many(requests)]
                return (await client.generate("one two", max_tokens=2)).text, many

        with tandem.Client(address, token=TOKEN) as client:
            text = client.generate("one two", max_tokens=2).text
            assert client.detokenize(client.tokenize("one").token_ids) == "one"
            assert client.models()[0].name == "demo"
            assert all(result.error is None for result in client.generate_many(requests))
        async_text, many = asyncio.run(ask())
        assert async_text == text
        assert all(result.error is None for result in many)
        with tandem.Client(address, retries=0) as client, pytest.raises(tandem.UnauthenticatedError):
            client.generate("one")


def test_a_wrong_token_for_the_engine_is_logged_without_it(model_dir, tmp_path):
    token_file = tmp_path / "wrong"
    token_file.write_text("tandem_wrong-secret")
    with (
        running_service("engine_service", "--fake", f"--tokens={write_tokens(tmp_path / 't')}") as engine,
        running_service(
            "tokenizer_service",
            f"--engine={engine.address}",
            f"--engine-token-file={token_file}",
            wait=False,
        ) as service,
    ):
        with grpc.insecure_channel(service.address) as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=WAIT_S * 6, wait_for_ready=True
            )
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        until_log(service, f"UNAUTHENTICATED: {SENTENCE}")
        assert "wrong-secret" not in service.log.read_text()


def until_log(service, words):
    """Waits until a service has logged something."""
    for _ in range(int(WAIT_S / 0.05)):
        if words in service.log.read_text():
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.process.wait(0.05)
    raise AssertionError(service.log.read_text())


def test_the_command_line_shows_a_token_from_a_file_or_the_environment(model_dir, tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN + "\n")

    async def main():
        async with serving(model_dir, dog, tokens=write_tokens(tmp_path / "tokens.toml")) as found:
            command = ("generate", "hi", "--target", found.address)
            run = asyncio.to_thread
            return [
                await run(tandem_command, *command),
                await run(tandem_command, *command, "--token-file", str(token_file)),
                await run(tandem_command, *command, TANDEM_TOKEN=TOKEN),
                await run(tandem_command, "models", "--target", found.address, TANDEM_TOKEN=TOKEN),
                await run(tandem_command, "chat", "--target", found.address, stdin="hi", TANDEM_TOKEN=TOKEN),
            ]

    refused, by_file, by_environment, models, chat = asyncio.run(main())
    assert (refused.returncode, refused.stdout) == (1, "")
    assert SENTENCE in refused.stderr
    assert by_file.stdout == by_environment.stdout == chat.stdout == "dog\n"
    assert "LlamaForCausalLM" in models.stdout


def test_a_new_token_is_let_in_without_a_restart_and_a_removed_one_no_more(model_dir, tmp_path):
    tokens = tmp_path / "tokens.toml"
    tokens.write_text("")

    async def code(found, token):
        async with tandem.AsyncClient(found.address, token=token, retries=0) as client:
            try:
                return (await client.generate("hi")).text
            except tandem.TandemError as error:
                return error.status.name

    async def main():
        async with serving(model_dir, dog, tokens=str(tokens)) as found:
            codes = [await code(found, TOKEN)]
            made = await asyncio.to_thread(tandem_command, "token", 'the "new" one')
            new = made.stderr.split()[-1]
            write_tokens(tokens)
            with tokens.open("a") as file:
                file.write("\n" + made.stdout)
            codes += [await code(found, TOKEN), await code(found, new)]
            tokens.write_text("[[token]]\nname = 3")
            codes += [await code(found, TOKEN)]
            tokens.write_text(made.stdout)
            return [*codes, await code(found, TOKEN), await code(found, new)], new, made.stdout

    codes, new, entry = asyncio.run(main())
    refused = "UNAUTHENTICATED"
    assert codes == [refused, "dog", "dog", "dog", refused, "dog"]
    assert new not in entry


def test_neither_tokens_nor_prompts_are_in_any_output(model_dir, tmp_path):
    tokens, token_file = write_tokens(tmp_path / "tokens.toml"), tmp_path / "engine-token"
    token_file.write_text(TOKEN)
    socket, log = f"unix:{tmp_path}/service.sock", tmp_path / "log"
    with (
        running_service("engine_service", "--fake", f"--tokens={tokens}") as engine,
        log.open("wb") as output,
    ):
        flags = [f"--listen={socket}", f"--engine={engine.address}", f"--tokens={tokens}"]
        command = [sys.executable, "-c", LOUD, *flags, f"--engine-token-file={token_file}"]
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            with tandem.Client(socket, token=TOKEN, retries=0) as client:
                with grpc.insecure_channel(socket) as channel:
                    watch = health_pb2_grpc.HealthStub(channel).Watch(
                        health_pb2.HealthCheckRequest(), timeout=WAIT_S * 6, wait_for_ready=True
                    )
                    assert any(each.status == health_pb2.HealthCheckResponse.SERVING for each in watch)
                client.generate("my private words", max_tokens=2)
                for wrong in ({"top_p": 2.0}, {"max_tokens": 10**6}, {"stop": ["private words"] * 100}):
                    with pytest.raises(tandem.InvalidRequestError):
                        client.generate("my private words", **wrong)
            with tandem.Client(socket, token=TOKEN + "-wrong", retries=0) as client:
                with pytest.raises(tandem.UnauthenticatedError) as caught:
                    client.generate("my private words")
                assert TOKEN not in str(caught.value)
            with contextlib.suppress(FileNotFoundError):
                Path(tokens).write_text(f'[[token]]\nname = "x"\nsha256 = "{TOKEN}"\n')
            with tandem.Client(socket, token=TOKEN, retries=0) as client:
                client.generate("my private words", max_tokens=2)
        finally:
            process.terminate()
            process.wait(60)
        text = log.read_text() + engine.log.read_text()
    assert "sha256 must be 64 hexadecimal digits; what was read before stays" in text
    assert TOKEN not in text
    assert "private" not in text


@pytest.mark.parametrize(
    ("listen", "warns"), [("0.0.0.0:0", True), ("127.0.0.1:0", False)], ids=["everywhere", "loopback"]
)
def test_tokens_in_plain_text_on_a_network_are_warned_of(tmp_path, caplog, listen, warns):
    async def main():
        config = ServerConfig(tokens=write_tokens(tmp_path / "tokens.toml"))
        async with running_server(config, listen, [], lambda server: None, options(config, 1024)):
            pass

    asyncio.run(main())
    assert ("tokens travel in plain text" in caplog.text) == warns
