"""`tandem serve` with a certificate, and with mutual TLS, in front of the real services."""

import signal
import subprocess

import pytest
import trustme

from support.certificates import Certificates
from support.cli_process import TANDEM, TIMEOUT_S, environment, tandem
from tandem.cli.own_certificate import NAMES, own_certificate
from tandem.cli.services import free_address


@pytest.fixture
def files(tmp_path):
    return Certificates(tmp_path)


def _flags(named):
    return [f"--{name.replace('_', '-')}={path}" for name, path in named.items()]


def _given(**named):
    return {**dict.fromkeys(NAMES), **named}


def test_serve_sees_that_a_service_with_mutual_tls_is_up(files):
    address = free_address()
    certificate = {**files.listener, "tls_client_ca": files.ca}
    certificate |= {"tls_check_cert": files.client_cert, "tls_check_key": files.client_key}
    listen = [f"--listen={address}", f"--engine-listen={free_address()}"]
    process = subprocess.Popen(
        [*TANDEM, "serve", "--fake", *listen, *_flags(certificate)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    try:
        assert process.stdout.readline() == f"{address} is ready. In another terminal:\n"
        shown = " --tls-ca FILE --tls-cert FILE --tls-key FILE"
        assert process.stdout.readline() == f"  tandem chat --target {address}{shown}\n"
        assert tandem("models", "--target", address, *_flags(files.client)).returncode == 0
        assert tandem("models", "--target", address, f"--tls-ca={files.ca}").returncode == 1
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0
    finally:
        process.terminate()
        process.wait(TIMEOUT_S)


def test_serve_says_in_a_line_what_mutual_tls_needs(files):
    done = tandem("serve", "--fake", *_flags(files.listener), f"--tls-client-ca={files.ca}")
    assert (done.returncode, done.stdout) == (2, "")
    what = "tls_check_cert and tls_check_key, a client's, to see that the service is up"
    assert done.stderr == f"tandem: tls_client_ca={files.ca!r}: needs {what}\n"


def test_the_check_asks_by_a_name_in_the_certificate(tmp_path):
    issued = trustme.CA().issue_cert("*.example.org")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(cert)
    issued.private_key_pem.write_to_path(key)
    found = own_certificate(_given(tls_cert=str(cert), tls_key=str(key)))
    assert found.options == [("grpc.ssl_target_name_override", "any.example.org")]
    assert found.flags == [f"--tls-cert={cert}", f"--tls-key={key}"]


def test_without_files_there_is_plain_text():
    assert own_certificate(_given()) is None


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tls_key": None}, "tls_cert='.*cert.pem': needs both tls_cert and tls_key"),
        ({"tls_check_cert": "a"}, "tls_check_cert='a': needs tls_client_ca"),
        ({"tls_cert": "/none"}, "tls_cert='/none', tls_key='.*': No such file"),
        ({"tls_key": "client_key"}, "(?i)key.values.mismatch"),
        (
            {"tls_client_ca": "other_ca", "tls_check_cert": "client_cert", "tls_check_key": "client_key"},
            "certificate verify failed",
        ),
    ],
    ids=["no-key", "check-alone", "missing", "mismatch", "check-of-other-roots"],
)
def test_what_cannot_work_is_said_before_anything_starts(files, wrong, said):
    given = {name: getattr(files, path or "", path) for name, path in wrong.items()}
    with pytest.raises(ValueError, match=said):
        own_certificate(_given(**{**files.listener, **given}))
