"""Cores that begin well and then say nothing more, for the server's end of their pipe."""

import os
import struct
import time


def silent(config, pipe):
    """Sends one report."""
    pipe.send("report")
    time.sleep(1000)


def amid_a_record(config, pipe):
    """Stops in the middle of its second report."""
    pipe.send("report")
    os.write(pipe.fileno(), struct.pack("!i", 1 << 20) + b"the first bytes of a megabyte")
    time.sleep(1000)
