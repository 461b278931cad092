"""TLS and mutual TLS on both services, to the engine, in both clients and on the command line."""

import asyncio
import logging
import ssl

import pytest

import tandem
from support.certificates import Certificates
from support.cli_process import tandem as tandem_command
from support.processes import running_service
from support.scripted_engine import LENGTH
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import encode, generate_request, serving
from tandem_service.tls import ChannelTls, ListenerTls, channel_credentials, listener_credentials

WAIT_S = 10


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_model_dir(tmp_path_factory.mktemp("small"), byte_level(), "x")


@pytest.fixture
def files(tmp_path):
    return Certificates(tmp_path)


async def dog(link, submit):
    await link.step(submit.sequence, encode("dog"), starts=True, finish=LENGTH)


def answers(address, **arguments):
    """The text, or the error, that each client gets."""

    def sync():
        with tandem.Client(address, retries=0, generate_timeout=WAIT_S, **arguments) as client:
            return client.generate("hi").text

    async def ask():
        async with tandem.AsyncClient(address, retries=0, generate_timeout=WAIT_S, **arguments) as client:
            return (await client.generate("hi")).text

    async def both():
        return await asyncio.gather(asyncio.to_thread(sync), ask(), return_exceptions=True)

    return both()


async def served_certificate(address, files):
    """The serial number of the certificate that a new connection sees."""
    host, port = address.split(":")
    context = ssl.create_default_context(cafile=files.ca)
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection(host, port, ssl=context)
    certificate = writer.get_extra_info("ssl_object").getpeercert()
    writer.close()
    return certificate["serialNumber"]


def test_both_clients_and_the_command_line_speak_tls(model_dir, files):
    async def main():
        async with serving(model_dir, dog, credentials=files.credentials(), **files.listener) as found:
            command = ("generate", "hi", "--target", found.address, "--tls-ca", files.ca)
            done = await asyncio.to_thread(tandem_command, *command)
            return await answers(found.address, tls_ca=files.ca), done.stdout

    assert asyncio.run(main()) == (["dog", "dog"], "dog\n")


def test_a_client_in_plain_text_is_told_that_nothing_can_be_said(model_dir, files):
    async def main():
        async with serving(model_dir, dog, credentials=files.credentials(), **files.listener) as found:
            command = ("generate", "hi", "--target", found.address)
            done = await asyncio.to_thread(tandem_command, *command)
            return await answers(found.address), done

    errors, done = asyncio.run(main())
    assert [type(error) for error in errors] == [tandem.UnavailableError] * 2
    assert done.returncode == 1
    assert "it may speak TLS (give --tls-ca)" in done.stderr


def test_a_certificate_of_other_roots_is_refused(model_dir, files):
    async def main():
        async with serving(model_dir, dog, credentials=files.credentials(), **files.listener) as found:
            command = ("generate", "hi", "--target", found.address, "--tls-ca", files.other_ca)
            done = await asyncio.to_thread(tandem_command, *command)
            return await answers(found.address, tls_ca=files.other_ca), done.stderr

    errors, said = asyncio.run(main())
    assert all(isinstance(error, tandem.UnavailableError) for error in errors)
    assert all("CERTIFICATE_VERIFY_FAILED" in error.message for error in errors)
    assert "does not come from the roots in --tls-ca" in said


def test_mutual_tls_lets_in_who_shows_a_certificate_of_its_roots(model_dir, files, tmp_path):
    (tmp_path / "strangers").mkdir()
    strangers = Certificates(tmp_path / "strangers")

    async def main():
        flags = {**files.listener, "tls_client_ca": files.ca}
        async with serving(model_dir, dog, credentials=files.credentials(), **flags) as found:
            shown = await answers(found.address, **files.client)
            none = await answers(found.address, tls_ca=files.ca)
            wrong = {"tls_ca": files.ca, "tls_cert": strangers.client_cert, "tls_key": strangers.client_key}
            return shown, [*none, *await answers(found.address, **wrong)]

    shown, refused = asyncio.run(main())
    assert shown == ["dog", "dog"]
    assert [type(error) for error in refused] == [tandem.UnavailableError] * 4


def test_a_renewed_certificate_is_shown_to_new_connections_while_streams_live_on(model_dir, files, caplog):
    may_finish = asyncio.Event()

    async def script(link, submit):
        await link.step(submit.sequence, encode("dog"), starts=True)
        await may_finish.wait()
        await link.step(submit.sequence, encode("dog"), finish=LENGTH)

    async def main():
        async with serving(model_dir, script, credentials=files.credentials(), **files.listener) as found:
            call = found.stub.Generate(generate_request())
            events = [await anext(aiter(call))]
            first = await served_certificate(found.address, files)
            files.renew()
            second = await served_certificate(found.address, files)
            files.break_key()
            third = [await served_certificate(found.address, files) for _ in range(3)]
            files.renew()
            fourth = await served_certificate(found.address, files)
            may_finish.set()
            events += [event async for event in call]
            return first, second, third, fourth, events

    with caplog.at_level(logging.INFO, "tandem"):
        first, second, third, fourth, events = asyncio.run(main())
    assert first != second
    assert third == [second] * 3
    assert fourth not in (first, second)
    assert events[-1].HasField("finished")
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len([each for each in warnings if files.key in each]) == 1, warnings


def test_the_tokenizer_service_reaches_an_engine_by_mutual_tls(model_dir, files):
    engine_flags = [f"--{name.replace('_', '-')}={value}" for name, value in files.listener.items()]
    channel_flags = [
        f"--engine-tls-ca={files.ca}",
        f"--engine-tls-cert={files.client_cert}",
        f"--engine-tls-key={files.client_key}",
        "--engine-tls-name=localhost",
    ]
    with (
        running_service(
            "engine_service", "--fake", *engine_flags, f"--tls-client-ca={files.ca}", wait=False
        ) as engine,
        running_service("tokenizer_service", "--engine", engine.address, *channel_flags) as tokenizer,
        tandem.Client(tokenizer.address) as client,
    ):
        assert client.generate("one two", max_tokens=2).usage.completion_tokens == 2


@pytest.mark.parametrize("service", ["engine_service", "tokenizer_service"])
def test_files_that_do_not_fit_end_a_service_with_one_line(service, files, tmp_path):
    missing = str(tmp_path / "none.pem")
    with running_service(service, f"--tls-cert={files.cert}", f"--tls-key={missing}", wait=False) as found:
        assert found.process.wait(60) != 0
        assert f"tls_key={missing!r}: No such file or directory" in found.log.read_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda files: ListenerTls(files.cert, ""), "must be given together"),
        (lambda files: ListenerTls(client_ca=files.ca), "needs tls_cert and tls_key"),
        (
            lambda files: listener_credentials(ListenerTls(files.cert, files.client_key)),
            "key values mismatch",
        ),
        (lambda files: listener_credentials(ListenerTls(files.cert, files.ca)), "not in PEM form"),
        (
            lambda files: listener_credentials(ListenerTls(files.cert, files.key, files.key)),
            "tls_client_ca=.*holds no certificates",
        ),
        (lambda files: ChannelTls(name="localhost"), "engine_tls_name='localhost': needs engine_tls_ca"),
        (lambda files: ChannelTls(cert=files.cert, key=files.key), "needs engine_tls_ca"),
        (lambda files: channel_credentials(ChannelTls("/none")), "engine_tls_ca='/none': No such file"),
    ],
    ids=["no-key", "no-cert", "mismatch", "no-pem", "no-roots", "name-alone", "cert-alone", "missing"],
)
def test_wrong_files_are_named(files, make, said):
    with pytest.raises(ValueError, match=said):
        make(files)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tls_ca": "/none"}, "tls_ca='/none': No such file"),
        ({"tls_cert": "a"}, "must be given together"),
        ({"tls_cert": "a", "tls_key": "b"}, "needs tls_ca"),
        ({"token": "two words"}, "9 characters are no token"),
        ({"token": "line\n"}, "5 characters are no token"),
    ],
    ids=["missing", "no-key", "no-ca", "spaces", "line-break"],
)
@pytest.mark.parametrize("kind", [tandem.Client, tandem.AsyncClient])
def test_wrong_arguments_of_a_client_are_named(kind, arguments, said):
    with pytest.raises(ValueError, match=said):
        kind(**arguments)
