"""Files that may be replaced while the service runs."""

import os
from collections.abc import Sequence

Stamp = tuple[tuple[int, int, int] | None, ...]
"""Device, inode and time of change of each file; None for one that is not there."""


def stamp(paths: Sequence[str]) -> Stamp:
    """What changes when one of the files is written, replaced or removed; links are followed."""
    return tuple(_stamp_of(path) for path in paths)


def read_file(name: str, path: str) -> bytes:
    """The bytes of the file that the flag `name` names.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"{name}={path!r}: {error.strerror}") from None


def _stamp_of(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns
