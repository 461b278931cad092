"""The command where its output cannot be written: a reader that has left, a full disk."""

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from support.cli_process import TANDEM, TIMEOUT_S, environment
from support.scripted_inference import ScriptedInference, Served, running
from tandem.cli.services import free_address


@pytest.fixture
def served() -> Iterator[Served]:
    servicer = ScriptedInference()
    with running(servicer) as target:
        yield servicer, target


def test_generate_survives_a_reader_that_leaves(served: Served) -> None:
    process = subprocess.Popen(
        [*TANDEM, "generate", "one two three", "--target", served[1]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(TIMEOUT_S) == 1
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def buffering_environment() -> dict[str, str]:
    """An environment in which Python keeps output back, as it does for everybody by default."""
    return {name: value for name, value in environment().items() if name != "PYTHONUNBUFFERED"}


WRITERS = pytest.mark.parametrize(
    "arguments",
    [["--help"], ["models", "--help"], ["models"], ["health"], ["generate", "one two"]],
    ids=" ".join,
)


def written_to(
    stdout: Any, arguments: list[str], target: str, stderr: int = subprocess.PIPE
) -> tuple[int, str | None]:
    """Exit status of a command that writes there, and what it wrote to stderr."""
    finished = subprocess.run(
        [*TANDEM, *arguments],
        stdout=stdout,
        stderr=stderr,
        text=True,
        timeout=TIMEOUT_S,
        env={**buffering_environment(), "TANDEM_TARGET": target},
    )
    return finished.returncode, finished.stderr


@pytest.fixture
def closed_pipe() -> Iterator[int]:
    """The end to write to, of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@WRITERS
def test_a_reader_that_has_left_is_status_1_without_a_word(
    served: Served, closed_pipe: int, arguments: list[str]
) -> None:
    assert written_to(closed_pipe, arguments, served[1]) == (1, "")


def test_health_is_status_1_also_where_nobody_reads_what_went_wrong(closed_pipe: int) -> None:
    assert written_to(closed_pipe, ["health"], free_address(), stderr=closed_pipe) == (1, None)


@WRITERS
def test_a_full_disk_is_one_line(served: Served, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        status, said = written_to(full, arguments, served[1])
    assert (status, said) == (1, "tandem: [Errno 28] No space left on device\n")
