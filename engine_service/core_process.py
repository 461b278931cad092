"""The core process as the server sees it: started, talked to without blocking, started again."""

import asyncio
import logging
import multiprocessing
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from typing import cast

from engine_service import core_main
from engine_service.config import EngineConfig
from engine_service.core_messages import Command, Report, Shutdown
from engine_service.core_pipe import READ_BYTES, FrameReader, framed

log = logging.getLogger("tandem.engine")

_PARTS_OF_SILENCE = 8
# A core without a pipe has nothing left to do but to end; a driver may take its time for that.
_BURIAL_S = 10.0


@dataclass(frozen=True)
class StartedCore:
    """A process that loads the model, and the server's end of the pipe between them."""

    process: BaseProcess
    pipe: socket.socket


def start_core(config: EngineConfig) -> StartedCore:
    """Starts a core, which ends with this process, however that ends."""
    # A fresh interpreter: forking a process with gRPC threads is not safe.
    context = multiprocessing.get_context("spawn")
    pipe, core_end = socket.socketpair()
    for end in (pipe, core_end):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, READ_BYTES)
    process = context.Process(target=core_main.main, args=(config, core_end), name="tandem-core")
    process.start()
    core_end.close()  # so that the pipe ends when the core does
    return StartedCore(process, pipe)


class CoreProcess(asyncio.BufferedProtocol):
    """One life of the core, whose pipe the event loop reads and writes."""

    def __init__(
        self, core: StartedCore, on_report: Callable[[Report], None], on_lost: Callable[[], None]
    ) -> None:
        """Nothing is read before `open`.

        Args:
            core: The core.
            on_report: Called on the event loop with each report, in order.
            on_lost: Called on the event loop once, when nothing more is to be expected of the core: its pipe
                has ended, or it was silent for too long. Its process may take longer to end.
        """
        self._process, self._pipe = core.process, core.pipe
        self._on_report = on_report
        self._on_lost: Callable[[], None] | None = on_lost
        self._has_ended = asyncio.Event()
        self._burial = asyncio.Lock()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._reader = FrameReader()
        self._num_reads = 0
        self._commands: list[Command] = []
        self._transport: asyncio.Transport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Begins to read and write."""
        await asyncio.get_running_loop().create_connection(lambda: self, sock=self._pipe)

    def send(self, command: Command) -> None:
        """Passes a command on, with all others of this moment; commands to a dead core are lost."""
        if not self._commands:
            asyncio.get_running_loop().call_soon(self.flush)
        self._commands.append(command)

    def flush(self) -> None:
        """Passes on now what would be passed on in a moment."""
        commands, self._commands = self._commands, []
        if commands and self._transport is not None:
            self._transport.write(framed(commands))

    def watch(self, timeout_s: float) -> None:
        """From now on kills the core once it has been silent for `timeout_s` seconds, or a little more."""
        self._run(self._watch(timeout_s))

    async def wait(self) -> None:
        """Waits until the process has ended."""
        await self._has_ended.wait()

    async def stop(self, timeout_s: float) -> None:
        """Ends the process, by force after `timeout_s` seconds. That is no loss."""
        self._on_lost = None
        self.send(Shutdown())
        try:
            async with asyncio.timeout(timeout_s):
                await self.wait()
        except TimeoutError:
            log.warning("the core does not end; killing it")
            await self.kill()

    async def kill(self) -> None:
        """Ends the process, whatever it does. That is no loss."""
        self._on_lost = None
        self._process.kill()
        await self._bury()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.BufferedProtocol."""
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        """See asyncio.BufferedProtocol."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See asyncio.BufferedProtocol."""
        self._num_reads += 1
        for report in self._reader.feed(self._buffer[:nbytes]):
            self._on_report(report)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.BufferedProtocol."""
        self._transport = None
        for task in self._tasks:
            task.cancel()
        self._lose()
        self._run(self._bury())

    async def _watch(self, timeout_s: float) -> None:
        num_reads, num_silent = self._num_reads, 0
        # In parts, so that the time for which this process itself was stopped counts as one of them.
        while num_silent < _PARTS_OF_SILENCE:
            await asyncio.sleep(timeout_s / _PARTS_OF_SILENCE)
            num_silent = num_silent + 1 if self._num_reads == num_reads else 0
            num_reads = self._num_reads
        log.error("the core has been silent for %.1f s; killing it", timeout_s)
        self._lose()
        self._process.kill()

    def _lose(self) -> None:
        on_lost, self._on_lost = self._on_lost, None
        if on_lost is not None:
            on_lost()

    async def _bury(self) -> None:
        # Of two threads that join a process that ends, one may find that it still lives.
        async with self._burial:
            if self._has_ended.is_set():
                return
            await asyncio.to_thread(self._process.join, _BURIAL_S)
            if self._process.is_alive():
                log.warning("the core has left its pipe but does not end; killing it")
                self._process.kill()
                await asyncio.to_thread(self._process.join)
            log.info("the core has ended with exit code %s", self._process.exitcode)
            self._has_ended.set()

    def _run(self, work: Coroutine[None, None, None]) -> None:
        """Runs `work` beside everything else, and keeps hold of it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
