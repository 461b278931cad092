"""`tandem top` beside running services: once, as plain lines, and on a terminal."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest

import tandem
from support.metrics_page import metrics_url
from support.processes import running_service

METRICS = "--metrics-listen=127.0.0.1:0"
ENTER, LEAVE = b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"
HOME, FRAME_END = b"\x1b[H", b"\x1b[J"


@pytest.fixture(scope="module")
def command():
    """The command line of `tandem top` for services with a request at any time."""
    with (
        running_service("engine_service", "--fake", "--fake-rate=200", METRICS) as engine,
        running_service("tokenizer_service", f"--engine={engine.address}", METRICS) as tokenizer,
    ):
        done = threading.Event()
        asking = threading.Thread(target=_ask_until, args=(tokenizer.address, done))
        asking.start()
        flags = [
            f"--tokenizer-metrics={metrics_url(tokenizer.log)}",
            f"--engine-metrics={metrics_url(engine.log)}",
        ]
        yield [sys.executable, "-m", "tandem", "top", *flags]
        done.set()
        asking.join()


@pytest.fixture(autouse=True)
def _interruptible():
    """A shell that runs tests in the background lets them ignore Ctrl-C, and with them their children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def _ask_until(address, done):
    with tandem.Client(address) as client:
        while not done.is_set():
            client.generate("Once upon a time there was a fox", max_tokens=20, ignore_eos=True)
            with contextlib.suppress(tandem.InvalidRequestError):
                client.generate("x", top_p=2)


def _number(text):
    return float(text.replace(",", ""))


def test_once_shows_load_throughput_and_latencies(command):
    done = subprocess.run([*command, "--once", "--interval=3"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    words = done.stdout
    assert "tokenizer service  up, 1 of 1 workers connected" in words
    assert "engine service     up, 1 workers connected, 0 core deaths" in words
    assert _number(re.search(r"in, ([\d,.]+)/s out", words)[1]) > 0
    assert re.search(r"blocks +\d+ of \d+ used", words)
    assert re.search(r"refused +INVALID_ARGUMENT [\d.,]+/s", words)
    for row in ("TTFT", "ITL", "queue", "prefill", "step"):
        p50, p99 = map(_number, re.search(rf"{row} +([\d.,]+) ms +([\d.,]+) ms", words).groups())
        assert 0 <= p50 <= p99
    # Steps of 200 tokens/s take 5 ms; the edges around that are 3 and 7.5.
    assert p50 > 1


def test_without_services_it_says_so_and_fails():
    addresses = ["--tokenizer-metrics=127.0.0.1:9", "--engine-metrics=127.0.0.1:9"]
    command = [sys.executable, "-m", "tandem", "top", "--once", "--interval=0.1", *addresses]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout.count("does not answer") == 2


def test_a_pipe_gets_plain_lines_until_it_is_ended(command):
    process = subprocess.Popen([*command, "--interval=0.2"], stdout=subprocess.PIPE, text=True)
    try:
        tables = 0
        while tables < 3:
            line = process.stdout.readline()
            assert "\x1b" not in line
            tables += line.startswith("tokenizer service")
        process.terminate()
        process.stdout.read()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def test_a_terminal_is_drawn_over_resized_and_given_back(command):
    terminal, inside = pty.openpty()
    _resize(terminal, columns=80, rows=30)
    process = subprocess.Popen([*command, "--interval=0.2"], stdout=inside)
    os.close(inside)
    try:
        data = _read_until(terminal, lambda data: b"refused" in _last_frame(data))
        assert data.startswith(ENTER + HOME)
        _resize(terminal, columns=20, rows=4)
        data = _read_until(terminal, lambda data: len(_last_frame(data).splitlines()) == 4)
        # Nothing clears the screen; each line is drawn over the one that was there.
        assert b"\x1b[2J" not in data
        rows = _last_frame(data).splitlines()
        assert all(row.endswith(b"\x1b[K") for row in rows)
        assert max(len(row.removesuffix(b"\x1b[K")) for row in rows) == 20
        process.send_signal(signal.SIGINT)
        data = _read_until(terminal, lambda data: LEAVE in data)
        assert data.endswith(LEAVE)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def _resize(terminal, *, columns, rows):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _last_frame(data):
    """The last picture that is whole."""
    frames = data.rpartition(FRAME_END)[0].split(FRAME_END)
    return frames[-1].partition(HOME)[2]


def _read_until(terminal, condition, timeout_s=30):
    data, end_s = b"", time.monotonic() + timeout_s
    while not condition(data):
        assert time.monotonic() < end_s, data
        if select.select([terminal], [], [], 0.5)[0]:
            with contextlib.suppress(OSError):  # the other end is closed; what it wrote last is read
                data += os.read(terminal, 65536)
    return data
