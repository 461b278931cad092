"""The core process as the server sees it: started, talked to without blocking, started again."""

import asyncio
import contextlib
import logging
import multiprocessing
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from engine_service import core_main
from engine_service.config import EngineConfig
from engine_service.core_messages import Command, Report, Shutdown

log = logging.getLogger("tandem.engine")

_PARTS_OF_SILENCE = 8


@dataclass(frozen=True)
class StartedCore:
    """A process that loads the model, and the server's end of the pipe between them."""

    process: BaseProcess
    pipe: Connection


def start_core(config: EngineConfig) -> StartedCore:
    """Starts a core, which ends with this process, however that ends."""
    # A fresh interpreter: forking a process with gRPC threads is not safe.
    context = multiprocessing.get_context("spawn")
    pipe, core_end = context.Pipe()
    process = context.Process(target=core_main.main, args=(config, core_end), name="tandem-core")
    process.start()
    core_end.close()  # so that the pipe ends when the core does
    return StartedCore(process, pipe)


class CoreProcess:
    """One life of the core. The event loop reads its reports; a thread writes commands, which may block."""

    def __init__(
        self, core: StartedCore, on_report: Callable[[Report], None], on_death: Callable[[], None]
    ) -> None:
        """Must be called with a running event loop.

        Args:
            core: The core.
            on_report: Called on the event loop with each report, in order.
            on_death: Called on the event loop once, after the last report.
        """
        self._loop = asyncio.get_running_loop()
        self._on_report = on_report
        self._on_death = on_death
        self._num_reads = 0
        self._has_ended = threading.Event()
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._process, self._pipe = core.process, core.pipe
        self._loop.add_reader(self._pipe.fileno(), self._receive)
        threading.Thread(target=self._send, daemon=True).start()

    def send(self, command: Command) -> None:
        """Passes a command on; commands to a dead core are lost."""
        self._commands.put(command)

    def watch(self, timeout_s: float, on_silence: Callable[[], None]) -> None:
        """From now on kills the core once it has been silent for `timeout_s` seconds, or a little more.

        `on_silence` is called then, on the event loop: a core that hangs in a driver may take long to die.
        A thread watches, since a core that stops amid a record holds up the loop, which reads it.
        """
        threading.Thread(target=self._watch, args=(timeout_s, on_silence), daemon=True).start()

    async def stop(self, timeout_s: float) -> None:
        """Ends the process, by force after `timeout_s` seconds."""
        self.send(Shutdown())
        await asyncio.to_thread(self._process.join, timeout_s)
        if self._process.is_alive():
            log.warning("the core does not end; killing it")
            await self.kill()

    async def kill(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        await asyncio.to_thread(self._process.join)

    def _watch(self, timeout_s: float, on_silence: Callable[[], None]) -> None:
        num_reads, num_silent = self._num_reads, 0
        # In parts, so that the time for which this process itself was stopped counts as one of them.
        while num_silent < _PARTS_OF_SILENCE:
            if self._has_ended.wait(timeout_s / _PARTS_OF_SILENCE):
                return
            num_silent = num_silent + 1 if self._num_reads == num_reads else 0
            num_reads = self._num_reads
        log.error("the core has been silent for %.1f s; killing it", timeout_s)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(on_silence)
        self._process.kill()

    def _receive(self) -> None:
        self._num_reads += 1
        try:
            while self._pipe.poll():
                self._on_report(self._pipe.recv())
        except (EOFError, OSError):
            self._loop.remove_reader(self._pipe.fileno())
            self._has_ended.set()
            self._loop.run_in_executor(None, self._bury)

    def _bury(self) -> None:
        self._process.join()
        log.info("the core has ended with exit code %s", self._process.exitcode)
        self._commands.put(Shutdown())  # lets the sending thread see the broken pipe
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(self._on_death)

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._pipe.send(_drain(self._commands))


def _drain(commands: "queue.SimpleQueue[Command]") -> list[Command]:
    """Everything that is queued; waits for the first."""
    drained = [commands.get()]
    with contextlib.suppress(queue.Empty):
        while True:
            drained.append(commands.get_nowait())
    return drained
