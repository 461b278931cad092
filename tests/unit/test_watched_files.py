"""Files that change while the service runs, also within one tick of their clock."""

import contextvars
import logging
import os

import pytest

from support.tokens import TOKEN, write_tokens
from tandem_service.access import TokenGate, bearer
from tandem_service.errors import UnauthenticatedError
from tandem_service.token_file import hash_token
from tandem_service.watched_files import Watched

SECOND_NS = 10**9


class Watch:
    """A watched file with a clock of the test's; every write of it happens at 0 on that clock."""

    def __init__(self, path):
        self.path = path
        self.now_ns = 0
        self.write("first")
        self.file = Watched("file", [str(path)], self._read, lambda: self.now_ns)

    def write(self, text):
        self.path.write_text(text)
        os.utime(self.path, ns=(0, 0))

    def _read(self):
        text = self.path.read_text()
        if text.startswith("bad"):
            raise ValueError(f"file: {text}")
        return text


@pytest.fixture
def watch(tmp_path):
    return Watch(tmp_path / "file")


def test_a_change_of_the_size_alone_is_seen(watch):
    watch.write("longer than the first")
    assert watch.file.renewed() == "longer than the first"
    assert watch.file.renewed() is None


def test_a_file_that_was_young_when_it_was_read_is_read_once_more(watch):
    watch.write("other")
    assert watch.file.renewed() is None
    watch.now_ns = SECOND_NS - 1
    assert watch.file.renewed() is None
    watch.now_ns = SECOND_NS
    assert watch.file.renewed() == watch.file.newest == "other"
    assert watch.file.renewed() is None


def test_what_is_wrong_is_logged_once_and_the_old_stays(watch, caplog):
    watch.write("bad file")
    for watch.now_ns in (0, 0, SECOND_NS, SECOND_NS):
        assert watch.file.renewed() is None
    assert watch.file.newest == "first"
    assert [each.getMessage() for each in caplog.records] == ["file: bad file; what was read before stays"]
    watch.write("bad once more")
    assert watch.file.renewed() is None
    assert len(caplog.records) == 2


def test_a_token_file_that_has_lost_its_tokens_locks_nobody_out(tmp_path, caplog):
    path = tmp_path / "tokens.toml"
    gate = TokenGate(write_tokens(path))

    def calls():
        path.write_text("")
        gate.admit(bearer(TOKEN))
        path.write_text(f'[[token]]\nname = "other"\nsha256 = "{hash_token("another").hex()}"\n')
        gate.admit(bearer("another"))
        with pytest.raises(UnauthenticatedError):
            gate.admit(bearer(TOKEN))

    # The caller belongs to a call's own context.
    contextvars.copy_context().run(calls)
    assert [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING] == [
        f"tokens={str(path)!r}: holds no token any more; what was read before stays"
    ]
