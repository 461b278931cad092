"""The pipe between server and core: whole messages out of any pieces, hardly a wait for the rest of one."""

import itertools
import socket
import threading

import pytest
from hypothesis import given, strategies as st

from engine_service import core_pipe
from engine_service.core_messages import End, PutImage, Shutdown
from engine_service.core_pipe import CoreEnd, FrameReader, framed

END = End((1, 2))
IMAGE = PutImage(b"s" * 32, b"p" * 500_000)


@pytest.fixture(params=[0.0, 0.01], ids=["waits", "polls-busily"])
def ends(request):
    """The server's end as a plain socket, and the core's."""
    server, core = socket.socketpair()
    with server, core:
        server.settimeout(10)
        yield server, CoreEnd(core, busy_s=request.param)


@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(0, 500), max_size=20))
def test_messages_come_whole_and_in_order_however_they_are_cut(messages, cuts):
    data = b"".join(map(framed, messages))
    borders = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    reader = FrameReader()
    pieces = [data[begin:end] for begin, end in itertools.pairwise(borders)]
    assert [message for piece in pieces for message in reader.feed(piece)] == messages


def test_the_core_takes_all_that_has_come(ends):
    server, core = ends
    assert not core.poll(0)
    server.sendall(framed([END]) + framed([END, Shutdown()]) + framed([END])[:-1])
    assert core.poll(10)
    assert core.recv() == [END, END, Shutdown()]


def test_a_command_that_is_still_coming_holds_nothing_up(ends):
    server, core = ends
    data = framed([IMAGE])
    server.sendall(data[:100])
    assert core.poll(10)
    assert core.recv() == []
    assert not core.poll(0)
    server.setblocking(False)
    sent, commands = 100, []
    while not commands:
        sent += server.send(data[sent:])
        commands = core.recv()
    assert commands == [IMAGE]


def test_images_that_the_server_writes_are_taken_before_the_next_step(ends, monkeypatch):
    # A machine that stalls may take longer for the rest than the core usually waits.
    monkeypatch.setattr(core_pipe, "_REST_S", 10.0)
    server, core = ends
    writer = threading.Thread(target=server.sendall, args=(framed([IMAGE]) * 8,))
    writer.start()
    commands = []
    assert core.poll(10)
    while core.poll(0):
        commands += core.recv()
    writer.join()
    assert commands == [IMAGE] * 8


def test_a_report_is_a_frame(ends):
    server, core = ends
    core.send("report")
    assert list(FrameReader().feed(server.recv(1000))) == ["report"]


def test_the_end_of_the_server_is_an_error_at_both(ends):
    server, core = ends
    server.close()
    assert core.poll(10)
    with pytest.raises(EOFError):
        core.recv()
    with pytest.raises(BrokenPipeError):
        core.send("report")
