"""The metrics of both services over TLS and mutual TLS, with certificates that are renewed."""

import contextlib
import logging
import socket
import ssl
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Gauge

from support.certificates import Certificates
from support.cli_process import tandem
from support.metrics_page import metrics_url
from support.processes import running_service
from tandem.cli.services import free_address
from tandem_service.metrics import metrics_listener
from tandem_service.tls import ListenerTls

REFUSALS = (ssl.SSLError, ConnectionError, urllib.error.URLError)


@pytest.fixture
def files(tmp_path):
    return Certificates(tmp_path)


@contextlib.contextmanager
def _served(tls):
    """The address of metrics with one gauge."""
    registry, address = CollectorRegistry(), free_address()
    Gauge("test_gauge", "Of this test.", registry=registry).set(7)
    with metrics_listener(address, registry, tls):
        yield address


def _page(address, files, cert=(), scheme="https"):
    context = ssl.create_default_context(cafile=files.ca)
    if cert:
        context.load_cert_chain(*cert)
    with urllib.request.urlopen(f"{scheme}://{address}/metrics", timeout=10, context=context) as response:
        return response.read().decode()


def _serial_number(address, files):
    """Of the certificate that a new connection sees."""
    host, port = address.split(":")
    context = ssl.create_default_context(cafile=files.ca)
    with (
        socket.create_connection((host, int(port)), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=host) as wrapped,
    ):
        return wrapped.getpeercert()["serialNumber"]


def test_a_certificate_brings_https_and_ends_plain_text(files, capsys):
    with _served(ListenerTls(files.cert, files.key)) as address:
        assert "test_gauge 7.0" in _page(address, files)
        with pytest.raises(REFUSALS):
            _page(address, files, scheme="http")
        assert "test_gauge 7.0" in _page(address, files)
    assert capsys.readouterr().err == ""


def test_mutual_tls_lets_in_who_shows_a_certificate_of_its_roots(files, tmp_path, capsys):
    (tmp_path / "strangers").mkdir()
    strangers = Certificates(tmp_path / "strangers")
    with _served(ListenerTls(files.cert, files.key, files.ca)) as address:
        assert "test_gauge 7.0" in _page(address, files, (files.client_cert, files.client_key))
        for cert in ((), (strangers.client_cert, strangers.client_key)):
            with pytest.raises(REFUSALS):
                _page(address, files, cert)
    assert capsys.readouterr().err == ""


def test_a_silent_connection_holds_up_nobody(files):
    with _served(ListenerTls(files.cert, files.key)) as address:
        host, port = address.split(":")
        with socket.create_connection((host, int(port))):
            assert "test_gauge 7.0" in _page(address, files)


def test_a_renewed_certificate_and_renewed_roots_are_taken_up(files, tmp_path, caplog):
    (tmp_path / "next").mkdir()
    following = Certificates(tmp_path / "next")
    roots = tmp_path / "roots.pem"
    roots.write_bytes((tmp_path / "ca.pem").read_bytes())
    old, new = [(each.client_cert, each.client_key) for each in (files, following)]
    with (
        caplog.at_level(logging.INFO, "tandem"),
        _served(ListenerTls(files.cert, files.key, str(roots))) as address,
    ):
        first = _serial_number(address, files)
        files.renew()
        second = _serial_number(address, files)
        files.break_key()
        assert [_serial_number(address, files) for _ in range(2)] == [second] * 2 != [first] * 2
        files.renew()
        assert "test_gauge 7.0" in _page(address, files, old)
        roots.write_bytes((tmp_path / "next" / "ca.pem").read_bytes())
        assert "test_gauge 7.0" in _page(address, files, new)
        with pytest.raises(REFUSALS):
            _page(address, files, old)
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert files.key in warnings[0]


def test_both_services_and_top_use_it(files):
    flags = ["--metrics-listen=127.0.0.1:0", f"--tls-client-ca={files.ca}"]
    flags += [f"--{name.replace('_', '-')}={path}" for name, path in files.listener.items()]
    shown = [f"--{name.replace('_', '-')}={path}" for name, path in files.client.items()]
    # No worker gets to its engine; their parent serves metrics all the same.
    tokenizer_flags = ["--engine=unix:/nowhere/engine.sock", f"--listen={free_address()}", "--workers=2"]
    with (
        running_service("engine_service", "--fake", *flags, wait=False) as engine,
        running_service("tokenizer_service", *tokenizer_flags, *flags, wait=False) as tokenizer,
    ):
        addresses = [metrics_url(each.log).removeprefix("https://") for each in (tokenizer, engine)]
        pages = [
            f"--{name}-metrics={address.removesuffix('/metrics')}"
            for name, address in zip(("tokenizer", "engine"), addresses, strict=True)
        ]
        done = tandem("top", "--once", "--interval=0.1", *pages, *shown)
        assert (done.returncode, done.stderr) == (0, "")
        assert tandem("top", "--once", "--interval=0.1", *pages, shown[0]).returncode == 1
