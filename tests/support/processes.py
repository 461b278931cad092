"""Service processes of a test: started on a unix socket, awaited, ended."""

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

START_TIMEOUT_S = 60


@dataclass
class Service:
    """A running service.

    Attributes:
        address: What to connect to, `unix:PATH`.
        process: The service's main process.
        log: Where its standard error goes.
    """

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def terminate(self, timeout_s: float = 30) -> int:
        """Sends SIGTERM and returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def running_service(module: str, *flags: str, wait: bool = True) -> Iterator[Service]:
    """Runs `python -m module` until the context ends; healthy on entry unless `wait` is False.

    An engine runs on the CPU wherever the tests run, unless the flags say something else.
    """
    if module == "engine_service":
        flags = ("--device=cpu", *flags)
    with tempfile.TemporaryDirectory(prefix="tandem-") as directory:
        address = f"unix:{directory}/service.sock"
        log = Path(directory) / "log"
        command = [sys.executable, "-m", module, "--listen", address, *flags]
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=stream, stdout=stream)
        service = Service(address, process, log)
        try:
            if wait:
                wait_until_serving(service)
            yield service
        finally:
            process.kill()
            process.wait()


def wait_until_serving(service: Service) -> None:
    """Returns when grpc.health.v1 says SERVING; fails with the log if the process ends before."""
    deadline_s = time.monotonic() + START_TIMEOUT_S
    with grpc.insecure_channel(service.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline_s:
            assert service.process.poll() is None, service.log.read_text()
            with contextlib.suppress(grpc.RpcError):
                if stub.Check(health_pb2.HealthCheckRequest(), timeout=1).status == 1:
                    return
            time.sleep(0.05)
    raise AssertionError(f"not serving after {START_TIMEOUT_S} s: {service.log.read_text()}")


def children_of(pid: int) -> list[int]:
    """The process ids of a process's children; Linux only."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def family_of(pid: int) -> list[int]:
    """The process ids of a process and of all below it; Linux only."""
    return [pid, *(each for child in children_of(pid) for each in family_of(child))]


def wait_until_gone(pids: Iterable[int], timeout_s: float = 10) -> None:
    """Returns when none of the processes runs; fails after `timeout_s` seconds."""
    deadline_s = time.monotonic() + timeout_s
    while left := [pid for pid in pids if _runs(pid)]:
        assert time.monotonic() < deadline_s, f"processes {left} still run after {timeout_s} s"
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"
