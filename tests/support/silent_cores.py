"""Cores that begin well and then say nothing more, for the server's end of their pipe."""

import time

from engine_service.core_pipe import framed


def silent(config, connection):
    """Sends one report."""
    connection.sendall(framed("report"))
    time.sleep(1000)


def amid_a_record(config, connection):
    """Stops in the middle of its second report."""
    connection.sendall(framed("report") + framed("a report")[:-1])
    time.sleep(1000)


def obedient(config, connection):
    """Ends at the first command."""
    connection.sendall(framed("report"))
    connection.recv(1)
