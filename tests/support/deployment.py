"""Both services as an operator runs them, with every process at hand to be killed."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import grpc

from support.processes import children_of
from tandem.cli.health import State, check
from tandem.cli.services import free_address
from tandem.engine.v1 import engine_pb2, engine_pb2_grpc

_RECOVERY_S = 60


class Deployment:
    """An engine service on a unix socket and two tokenizer workers behind one port.

    Attributes:
        address: Where clients connect.
        log: What all processes said.
    """

    def __init__(self, directory: Path, *engine_flags: str) -> None:
        """Starts both services; both are healthy in the context."""
        self.address = free_address()
        self.log = directory / "log"
        self._engine_address = f"unix:{directory}/engine.sock"
        self._engine_flags = engine_flags
        self._engine = self._start("engine_service", self._engine_address, *engine_flags)
        flags = (f"--engine={self._engine_address}", "--workers=2")
        self._tokenizer = self._start("tokenizer_service", self.address, *flags)

    def __enter__(self) -> Self:
        self.wait_until_serving()
        return self

    def __exit__(self, *error: object) -> None:
        for process in (self._tokenizer, self._engine):
            process.kill()
            process.wait()

    def kill_core(self) -> None:
        """Kills the engine's core, which its server starts again."""
        os.kill(int(self.epoch().split("-")[0]), signal.SIGKILL)

    def kill_engine(self) -> None:
        """Kills the engine's server."""
        self._engine.kill()
        self._engine.wait()

    def restart_engine(self) -> None:
        """Starts the server again where it was, as its supervisor would."""
        self._engine = self._start("engine_service", self._engine_address, *self._engine_flags)

    def kill_worker(self, rng: random.Random) -> None:
        """Kills one of the workers that run, which their parent starts again."""
        if workers := children_of(self._tokenizer.pid):
            os.kill(rng.choice(workers), signal.SIGKILL)

    def epoch(self) -> str:
        """Which core runs."""
        with grpc.insecure_channel(self._engine_address) as channel:
            stub = engine_pb2_grpc.EngineStub(channel)
            return stub.GetEngineInfo(engine_pb2.GetEngineInfoRequest(), timeout=5).info.epoch

    def is_serving(self) -> bool:
        """What health says to clients."""
        return check(self.address, timeout_s=1) is State.SERVING

    def wait_until_serving(self) -> None:
        """Returns when both services say that they serve."""
        deadline_s = time.monotonic() + _RECOVERY_S
        while not (check(self._engine_address) is State.SERVING and self.is_serving()):
            assert time.monotonic() < deadline_s, self.log.read_text()[-4000:]
            time.sleep(0.05)

    def wait_until_free(self) -> None:
        """Returns when the engine runs nothing and all its blocks are free."""
        deadline_s = time.monotonic() + 10
        with grpc.insecure_channel(self._engine_address) as channel:
            stub = engine_pb2_grpc.EngineStub(channel)
            while not _is_free(load := stub.GetLoad(engine_pb2.GetLoadRequest(), timeout=5).load):
                assert time.monotonic() < deadline_s, load
                time.sleep(0.02)

    def _start(self, module: str, address: str, *flags: str) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", module, "--listen", address, *flags]
            return subprocess.Popen(command, stdout=log, stderr=log)


def _is_free(load: engine_pb2.Load) -> bool:
    return load.num_running == load.num_waiting == 0 and load.num_free_blocks == load.num_blocks
