"""Files that may be replaced while the service runs."""

import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

log = logging.getLogger("tandem")

Made = TypeVar("Made")

# A file may change twice within one tick of its clock, some milliseconds, or more over a network: what is so
# young may change once more and keep its stamp.
_SETTLED_NS = 1_000_000_000

Stamp = tuple[tuple[int, int, int, int] | None, ...]
"""Device, inode, size and time of change of each file; None for one that is not there."""


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


class Watched(Generic[Made]):
    """What is made of files, and made anew when they have changed; while they cannot be used, the old stays.

    Files that had just been written when they were read are read once more when they are a second old.

    Attributes:
        newest: What was made last.
    """

    def __init__(
        self,
        what: str,
        paths: Sequence[str],
        make: Callable[[], Made],
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Makes it for the first time.

        Args:
            what: Names it in the log.
            paths: The files.
            make: Reads them.
            clock_ns: The clock of the files.

        Raises:
            ValueError: A file cannot be used.
        """
        self._what = what
        self._paths = paths
        self._make = make
        self._clock_ns = clock_ns
        self._complaint: tuple[Stamp, str] | None = None
        self._seen = self._look()
        self.newest = make()

    def renewed(self) -> Made | None:
        """The new one, if there is one since the last call. What is wrong with new files is logged once."""
        now = self._look()
        if now == self._seen:
            return None
        self._seen = now
        try:
            self.newest = self._make()
        except ValueError as error:
            self._complain((now[0], str(error)))
            return None
        log.info("%s: read again", self._what)
        return self.newest

    def _look(self) -> tuple[Stamp, bool]:
        """The stamp, and whether a further change would change it."""
        found = stamp(self._paths)
        newest_ns = max((each[-1] for each in found if each), default=0)
        return found, self._clock_ns() - newest_ns >= _SETTLED_NS

    def _complain(self, complaint: tuple[Stamp, str]) -> None:
        if complaint != self._complaint:
            log.warning("%s; what was read before stays", complaint[1])
        self._complaint = complaint


def _stamp_of(path: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
