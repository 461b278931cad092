"""`tandem health` as a process, against services that serve, cannot serve, and are not there."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.certificates import Certificates
from support.cli_process import tandem
from support.processes import Service, running_service
from tandem.cli.services import free_address

ENGINE = "tandem.engine.v1.Engine"


@pytest.fixture(scope="module")
def engine() -> Iterator[Service]:
    with running_service("engine_service", "--fake") as service:
        yield service


def health(target: str, *flags: str) -> tuple[int, str, str]:
    finished = tandem("health", "--target", target, *flags)
    return finished.returncode, finished.stdout, finished.stderr


@pytest.mark.parametrize(
    "flags", [(), (f"--service={ENGINE}",), ("--alive",)], ids=["whole", "named", "alive"]
)
def test_a_serving_service_is_healthy(engine: Service, flags: tuple[str, ...]) -> None:
    assert health(engine.address, *flags) == (0, f"{engine.address}: serving\n", "")


@pytest.mark.parametrize("flags", [(), ("--alive",)], ids=["serving", "alive"])
def test_a_service_that_is_not_there_is_unhealthy(engine: Service, flags: tuple[str, ...]) -> None:
    unknown = health(engine.address, "--service=tandem.v1.Inference", *flags)
    assert unknown == (1, "", f"{engine.address}: unknown service\n")
    gone = f"{engine.address}.gone"
    assert health(gone, *flags) == (1, "", f"{gone}: unreachable\n")


def test_a_service_that_cannot_serve_is_alive_but_not_healthy() -> None:
    with running_service("tokenizer_service", "--engine=unix:/nowhere/engine.sock", wait=False) as service:
        while health(service.address, "--alive") == (1, "", f"{service.address}: unreachable\n"):
            assert service.process.poll() is None, service.log.read_text()
        assert health(service.address, "--alive") == (0, f"{service.address}: not serving\n", "")
        assert health(service.address) == (1, "", f"{service.address}: not serving\n")


def test_a_name_that_no_service_can_have_is_wrong_usage(engine: Service) -> None:
    status, _, said = health(engine.address, "--service", "é" * 64)
    assert (status, said.endswith("has 128 bytes, at most 127\n")) == (2, True)


def test_a_timeout_is_a_number_and_may_be_endless(engine: Service) -> None:
    assert health(engine.address, "--timeout=inf")[0] == 0
    said = "tandem: timeout=nan: must be a number of seconds, or None for no limit\n"
    assert health(engine.address, "--timeout=nan") == (2, "", said)


def test_health_speaks_tls(tmp_path: Path) -> None:
    files, address = Certificates(tmp_path), free_address()
    flags = [f"--listen={address}", f"--tls-cert={files.cert}", f"--tls-key={files.key}"]
    with running_service("engine_service", "--fake", *flags, wait=False) as service:
        while health(address, f"--tls-ca={files.ca}") != (0, f"{address}: serving\n", ""):
            assert service.process.poll() is None, service.log.read_text()
        assert health(address) == (1, "", f"{address}: unreachable\n")
