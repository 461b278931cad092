"""Unix sockets of services: whose file it is, who may connect, and what a killed service leaves."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from support.processes import Service, running_service, wait_until_serving

FLAGS = {"engine_service": ["--fake"], "tokenizer_service": ["--engine=unix:/nowhere"]}


@pytest.mark.parametrize("module", FLAGS)
def test_a_living_services_socket_is_not_taken(module):
    with running_service("engine_service", "--fake") as service:
        command = [sys.executable, "-m", module, f"--listen={service.address}", *FLAGS[module]]
        second = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert second.returncode != 0
        assert (
            f"listen={service.address!r}: something listens there already" in second.stderr.splitlines()[-1]
        )
        wait_until_serving(service)


def test_a_killed_services_socket_does_not_stop_the_next_and_is_its_owners_alone():
    with running_service("engine_service", "--fake") as service:
        path = Path(service.address.removeprefix("unix:"))
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0
        service.process.kill()
        service.process.wait()
        assert path.exists()
        with service.log.open("wb") as log:
            command = [sys.executable, "-m", "engine_service", f"--listen={service.address}", "--fake"]
            process = subprocess.Popen(command, stdout=log, stderr=log)
        again = Service(service.address, process, service.log)
        try:
            wait_until_serving(again)
        finally:
            assert again.terminate() == 0
        assert not path.exists()
