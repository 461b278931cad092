"""When a service process is told to end."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import threading

log = logging.getLogger("tandem")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


async def wait_for_termination(ends_with_input: bool = False) -> None:
    """Returns when the process is told to end; being told again ends it at once, by a signal.

    Args:
        ends_with_input: Whether the end of standard input, which the parent process holds, counts like
            SIGTERM. However the parent dies, it then leaves nobody behind.
    """
    loop = asyncio.get_running_loop()
    was_told = asyncio.Event()

    def on_told(why: str) -> None:
        log.info("%s: ending; once more, and it is at once", why)
        for each in _SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        was_told.set()

    def read_input() -> None:
        while os.read(sys.stdin.fileno(), 4096):
            pass
        if was_told.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(on_told, "end of input")

    for each in _SIGNALS:
        loop.add_signal_handler(each, on_told, each.name)
    if ends_with_input:
        # In a thread, since an event loop cannot wait for every kind of file.
        threading.Thread(target=read_input, daemon=True).start()
    await was_told.wait()
