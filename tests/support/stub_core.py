"""A core that a test plays: the other end of the pipe, and a process that ends when it is told to."""

import socket
import threading

from engine_service.core_messages import EngineInfo
from engine_service.core_pipe import CoreEnd
from engine_service.core_process import StartedCore

INFO = EngineInfo("stub", "LlamaForCausalLM", "float32", "cpu", 100, (1,), b"", 64, 16, 8, "epoch")


class StubCore:
    """Stands for the process too.

    Attributes:
        pipe: The core's end.
        started: What the server takes over.
    """

    exitcode = None

    def __init__(self):
        server, self._socket = socket.socketpair()
        self.pipe = CoreEnd(self._socket)
        self.started = StartedCore(self, server)
        self._has_ended = threading.Event()

    def leave_pipe(self):
        self._socket.close()

    def kill(self):
        self._socket.close()
        self._has_ended.set()

    def join(self, timeout=None):
        self._has_ended.wait(timeout)

    def is_alive(self):
        return not self._has_ended.is_set()
