"""The processes that make a load, so that no single one of them is what is measured."""

import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tandem_bench.serving.job import DONE, READY, Job, shares
from tandem_bench.serving.server import Server
from tandem_bench.serving.timed_answer import TimedAnswer

# Between the word that all are connected and the first request.
_LEAD_S = 0.2
_CONNECT_TIMEOUT_S = 120.0


class ClientError(Exception):
    """A client process ended, or could not connect; its own words are on stderr."""


class Clients:
    """Some client processes, for one load after the other. They have ended when the context has."""

    def __init__(self, server: Server, num_processes: int) -> None:
        """Starts them."""
        self._processes = [_ClientProcess(server) for _ in range(num_processes)]
        self._running: list[_ClientProcess] = []
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def start(self, job: Job) -> float:
        """Connects and starts; gives the time of the start.

        Raises:
            ClientError: A process ended.
        """
        parts = shares(job, len(self._processes))
        self._running = self._processes[: len(parts)]
        for process, part in zip(self._running, parts, strict=True):
            process.send(part)
            process.listen(self._messages)
        for _ in self._running:
            self._next(_CONNECT_TIMEOUT_S, {READY})
        start_s = time.monotonic() + _LEAD_S
        for process in self._running:
            process.send(start_s)
        return start_s

    def finish(self, answers: list[TimedAnswer], on_answer: Callable[[], object] = lambda: None) -> None:
        """Adds answers to a list as they end, until all have.

        Raises:
            ClientError: A process ended.
        """
        num_done = 0
        while num_done < len(self._running):
            message = self._next(None, {DONE})
            if message == DONE:
                num_done += 1
            else:
                answers.append(message)
                on_answer()

    def stop(self) -> None:
        """Ends a job with pauses; `finish` gives what it has brought."""
        for process in self._running:
            process.send(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.end()

    def _next(self, timeout_s: float | None, words: set[str]) -> Any:
        try:
            message = self._messages.get(timeout=timeout_s)
        except queue.Empty:
            raise ClientError(f"the clients did not connect within {timeout_s:g} s") from None
        if message is None:
            raise ClientError("a client process ended; its last lines above say why")
        assert isinstance(message, TimedAnswer) or message in words, message
        return message


class _ClientProcess:
    """One of them; a thread of ours reads what it says."""

    def __init__(self, server: Server) -> None:
        # A session of its own: Ctrl-C goes to us alone, who show what there is.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tandem_bench.serving.client_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        # Not on its command line, which everybody on the machine can read: it may hold a token.
        self.send(server)

    def send(self, message: object) -> None:
        assert self._process.stdin is not None
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()

    def listen(self, messages: "queue.SimpleQueue[Any]") -> None:
        """Passes on what it says until its job is done; None if it ends before."""
        threading.Thread(target=self._read, args=(messages,), daemon=True).start()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()

    def _read(self, messages: "queue.SimpleQueue[Any]") -> None:
        message = None
        try:
            while message != DONE:
                message = pickle.load(self._process.stdout)  # type: ignore[arg-type]
                messages.put(message)
        except (EOFError, pickle.UnpicklingError):
            messages.put(None)


def default_processes() -> int:
    """A quarter of the cores: the services that are measured take the others."""
    return max(1, (os.cpu_count() or 1) // 4)
