"""The `tandem` command as a process, against a scripted service."""

import argparse
import base64
import contextlib
import os
import pty
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.cli_process import TANDEM, TIMEOUT_S, environment, tandem
from support.scripted_inference import ScriptedInference, Served, running
from tandem.cli import bench, chat, demo, generate, health, main as cli_main, models, picture, serve, services
from tandem.v1 import common_pb2, inference_pb2
from tandem_service import errors


@pytest.fixture
def served() -> Iterator[Served]:
    servicer = ScriptedInference()
    with running(servicer) as target:
        yield servicer, target


def test_generate_writes_the_text_and_nothing_else(served: Served) -> None:
    servicer, target = served
    finished = tandem("generate", "one two", "--target", target, "--max-tokens=2", "--stop=x", "--seed=5")
    assert (finished.stdout, finished.stderr, finished.returncode) == ("one two\n", "", 0)
    assert servicer.requests == [
        inference_pb2.GenerateRequest(
            prompt="one two",
            sampling=common_pb2.Sampling(seed=5),
            stop=inference_pb2.Stop(max_tokens=2, strings=["x"]),
        )
    ]


def test_generate_reads_stdin_and_wraps_a_chat(served: Served) -> None:
    servicer, target = served
    finished = tandem("generate", "-", "--system", "Be brief.", stdin="from a pipe", TANDEM_TARGET=target)
    assert (finished.stdout, finished.returncode) == ("from a pipe .\n", 0)
    roles = [(message.role, message.content[0].text) for message in servicer.requests[0].chat.messages]
    assert roles == [("system", "Be brief."), ("user", "from a pipe")]


def test_an_empty_token_in_the_environment_is_none(served: Served) -> None:
    assert tandem("models", "--target", served[1], TANDEM_TOKEN="").returncode == 0


@pytest.mark.parametrize("name", ["", "a\x7f", "a\nb", "\udc80"], ids=ascii)
def test_a_token_file_gets_no_name_that_it_cannot_hold(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli_main(["token", name]) == 2
    said = f"tandem: name={name!r}: must be a printable text that is not empty\n"
    assert capsys.readouterr() == ("", said)


def test_models_is_a_table(served: Served) -> None:
    finished = tandem("models", "--target", served[1])
    assert finished.returncode == 0
    header, row = finished.stdout.splitlines()
    assert header.split() == ["NAME", "ARCHITECTURE", "CONTEXT", "VOCABULARY", "TYPE", "CHAT", "VISION"]
    assert row.split() == ["scripted", "LlamaForCausalLM", "100", "1000", "float32", "yes", "no"]


def test_a_chat_from_a_pipe_keeps_its_turns(served: Served) -> None:
    servicer, target = served
    lines = "one\ntwo\n\n/system Be kind.\nthree\n/reset\nfour\n/what\n/help\n/quit\nfive\n"
    finished = tandem("chat", "--target", target, stdin=lines)
    assert (finished.stdout, finished.returncode) == ("one .\ntwo .\nthree .\nfour .\n", 0)
    assert finished.stderr.count("TTFT") == 4
    assert "tokens/s" in finished.stderr
    assert "/what is not a command" in finished.stderr
    turns = [
        [(message.role, message.content[0].text) for message in request.chat.messages]
        for request in servicer.requests
    ]
    assert turns == [
        [("user", "one")],
        [("user", "one"), ("assistant", "one ."), ("user", "two")],
        [("system", "Be kind."), ("user", "three")],
        [("system", "Be kind."), ("user", "four")],
    ]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and more")
    return path


def parts_of(request: Any) -> list[list[str]]:
    """For each message of a chat its texts, and `image` for each picture."""
    return [
        [part.text or part.WhichOneof("part") for part in message.content]
        for message in request.chat.messages
    ]


def test_a_chat_shows_pictures_with_the_next_question(served: Served, photo: Path) -> None:
    servicer, target = served
    lines = f"what is it?\nand now?\n/image {photo}\nand here?\n/image nowhere.png\n"
    finished = tandem("chat", "--image", str(photo), "--target", target, stdin=lines)
    assert finished.returncode == 0
    assert finished.stderr.count("[photo.png, 17 bytes]") == 2
    assert "image nowhere.png: No such file or directory" in finished.stderr
    first, second, third = map(parts_of, servicer.requests)
    assert first == [["image", "what is it?"]]
    assert second == [*first, ["what is it? ."], ["and now?"]]
    assert third[4:] == [["image", "and here?"]]
    assert servicer.requests[0].chat.messages[0].content[0].image.data == photo.read_bytes()


def test_a_refused_picture_is_not_sent_again(served: Served, photo: Path) -> None:
    servicer, target = served
    servicer.failures = [errors.InvalidRequestError("no image")]
    terminal = Terminal("chat", "--image", str(photo), "--target", target)
    terminal.wait_for("> ")
    terminal.type("one\n")
    terminal.wait_for("INVALID_ARGUMENT: no image")
    terminal.wait_for("> ")
    terminal.type("two\n")
    terminal.wait_for("two .")
    terminal.type("/quit\n")
    assert terminal.status() == 0
    assert parts_of(servicer.requests[-1]) == [["two"]]


def test_generate_takes_pictures_for_a_chat_or_for_placeholders(served: Served, photo: Path) -> None:
    servicer, target = served
    for prompt in ("what?", "see <image> here"):
        finished = tandem("generate", prompt, "--image", str(photo), "--target", target)
        assert finished.returncode == 0
    chat_request, plain = servicer.requests
    assert parts_of(chat_request) == [["image", "what?"]]
    assert (plain.prompt, [each.data for each in plain.images]) == ("see <image> here", [photo.read_bytes()])


def test_a_picture_that_is_not_there_is_one_line(served: Served) -> None:
    finished = tandem("generate", "what?", "--image", "nowhere.png", "--target", served[1])
    assert (finished.stdout, finished.returncode) == ("", 2)
    assert finished.stderr == "tandem: image nowhere.png: No such file or directory\n"


PNG, JPEG = b"\x89PNG\r\n\x1a\n" + bytes(8000), b"\xff\xd8\xff" + bytes(50)


@pytest.mark.parametrize(
    ("environment", "data", "start"),
    [
        ({"TERM": "xterm-kitty"}, PNG, "\033_Ga=T,f=100,q=2,r=10,m=1;"),
        ({"KITTY_WINDOW_ID": "1"}, PNG[:60], "\033_Ga=T,f=100,q=2,r=10,m=0;"),
        ({"TERM_PROGRAM": "ghostty"}, PNG, "\033_Ga=T"),
        ({"TERM": "xterm-kitty"}, JPEG, ""),
        ({"TERM_PROGRAM": "iTerm.app"}, JPEG, "\033]1337;File=size=53;inline=1;height=10;"),
        ({"TERM_PROGRAM": "WezTerm"}, PNG, "\033]1337;File="),
        ({"LC_TERMINAL": "iTerm2"}, PNG, "\033]1337;File="),
        ({"LC_TERMINAL": "iTerm2", "TMUX": "/tmp/tmux"}, PNG, ""),
        ({"TERM": "xterm-256color"}, PNG, ""),
        ({}, PNG, ""),
    ],
    ids=["kitty", "one-piece", "ghostty", "no-jpeg", "iterm", "wezterm", "ssh", "tmux", "xterm", "none"],
)
def test_pictures_are_drawn_where_the_terminal_can(
    environment: dict[str, str], data: bytes, start: str
) -> None:
    drawing = picture.thumbnail(data, environment)
    assert drawing.startswith(start)
    assert bool(drawing) == bool(start)


def test_a_drawing_holds_the_whole_file() -> None:
    drawing = picture.thumbnail(PNG, {"TERM": "xterm-kitty"})
    pieces = [piece.partition(";") for piece in drawing.split("\033\\")[:-1]]
    assert base64.b64decode("".join(piece for _, _, piece in pieces)) == PNG
    assert [head[-1] for head, _, _ in pieces] == ["1", "1", "0"]
    assert max(len(piece) for _, _, piece in pieces) <= 4096


class Terminal:
    """A process at the other end of a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.execve(sys.executable, [*TANDEM, *arguments], environment(TERM="dumb"))
        self._unread = b""

    def wait_for(self, text: str) -> None:
        """Reads until the process has written `text`."""
        while text.encode() not in self._unread:
            self._unread += os.read(self._terminal, 4096)
        self._unread = self._unread.partition(text.encode())[2]

    def type(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def status(self) -> int:
        """Waits for the end of the process; returns its exit status."""
        with contextlib.suppress(OSError):
            while os.read(self._terminal, 4096):
                pass
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


CTRL_C, CTRL_D = "\x03", "\x04"


def test_ctrl_c_cancels_the_answer_and_not_the_chat(served: Served) -> None:
    servicer, target = served
    terminal = Terminal("chat", "--target", target)
    terminal.wait_for("> ")
    # Several times: an interruption that tears gRPC's locks shows only now and then.
    for _ in range(10):
        terminal.type("hang on\n")
        terminal.wait_for("hang on\r\n")
        terminal.wait_for("hang")
        terminal.type(CTRL_C)
        terminal.wait_for("cancelled]")
        assert servicer.cancelled.wait(TIMEOUT_S)
        servicer.cancelled.clear()
        terminal.wait_for("> ")
    terminal.type("and now\n")
    terminal.wait_for("and now .")
    terminal.wait_for("> ")
    terminal.type(CTRL_D)
    assert terminal.status() == 0


def test_ctrl_c_at_the_prompt_does_not_end_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[str | BaseException] = [KeyboardInterrupt(), "one", KeyboardInterrupt(), " two ", EOFError()]

    def read(prompt: str) -> str:
        line = typed.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line

    monkeypatch.setattr("builtins.input", read)
    assert list(chat.typed_lines()) == ["one", "two"]


def test_a_failed_answer_does_not_end_an_interactive_chat(served: Served) -> None:
    servicer, target = served
    servicer.failures = [errors.InvalidRequestError("too long")]
    terminal = Terminal("chat", "--target", target)
    terminal.wait_for("> ")
    terminal.type("one\n")
    terminal.wait_for("INVALID_ARGUMENT: too long")
    terminal.wait_for("> ")
    terminal.type("two\n")
    terminal.wait_for("two .")
    terminal.type("/quit\n")
    assert terminal.status() == 0
    assert len(servicer.requests[-1].chat.messages) == 1


@pytest.mark.parametrize("command", [["generate", "x"], ["chat"], ["models"]], ids=lambda command: command[0])
def test_nothing_there_is_one_line(command: list[str]) -> None:
    target = services.free_address()
    finished = tandem(*command, "--target", target, stdin="x\n")
    assert (finished.stdout, finished.returncode) == ("", 1)
    assert finished.stderr == (
        f"tandem: nothing answers at {target}; start the services with `tandem serve`, or give --target\n"
    )


def test_a_refused_request_is_one_line(served: Served) -> None:
    finished = tandem("generate", "x", "--max-tokens=-1", "--target", served[1])
    assert (finished.stdout, finished.returncode) == ("", 1)
    assert finished.stderr == "tandem: INVALID_ARGUMENT: stop.max_tokens: -1 is less than 1\n"


def test_an_unavailable_engine_is_not_called_an_absent_service(served: Served) -> None:
    servicer, target = served
    servicer.failures = [errors.UnavailableError("the engine is starting")] * 3
    finished = tandem("generate", "x", "--target", target)
    assert finished.stderr == "tandem: UNAVAILABLE: the engine is starting\n"
    assert finished.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["generate"], "prompt"),
        (["models", "--target", "localhost"], "target='localhost': must be HOST:PORT"),
        (["generate", "x", "--max-tokens", "9999999999"], "max_tokens=9999999999"),
        (["generate", "x", "--top-p", "half"], "--top-p"),
    ],
    ids=["no-command", "no-prompt", "target", "too-large-for-its-type", "not-a-number"],
)
def test_wrong_usage_is_status_2(arguments: list[str], said: str) -> None:
    finished = tandem(*arguments)
    assert finished.returncode == 2
    assert said in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize(
    "command", [bench, chat, demo, generate, health, models, serve], ids=lambda each: each.__name__
)
def test_every_flag_has_help_with_its_default(command: Any) -> None:
    commands = argparse.ArgumentParser().add_subparsers()
    command.add_command(commands, None)
    (parser,) = commands.choices.values()
    flags = [action for action in parser._actions if action.option_strings and action.dest != "help"]
    assert flags
    assert [flag.dest for flag in flags if "(default: " not in (flag.help or "")] == []
    numbers = [flag for flag in flags if flag.type in (int, float)]
    units = ("SECONDS", "PROCESSES", "TOKENS", "PROBABILITY", "LOGITS", "FACTOR", "NUMBER")
    assert [flag.dest for flag in numbers if flag.metavar not in units] == []


def test_bench_without_its_extras_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else object())
    assert cli_main(["bench"]) == 1
    said = capsys.readouterr().err
    assert said == "tandem: the benchmark is not installed here: pip install 'tandem-llm[engine]'\n"


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        (
            ["--shape", "tiny", "--device=cpu", "--out=there", "--shrink=9"],
            ["tandem_bench", "seed", "--shape=tiny", "--device=cpu", "--out=there", "--shrink=9"],
        ),
        (
            ["serve", "--shape", "tiny", "--streams=1,2", "--help"],
            ["tandem_bench.serving", "--shape", "tiny", "--streams=1,2", "--help"],
        ),
    ],
    ids=["comparison", "serve"],
)
def test_bench_starts_what_measures_with_its_flags(
    arguments: list[str], started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    class Started:
        def __init__(self, command: list[str]) -> None:
            commands.append(command)

        def wait(self) -> int:
            return 3

    monkeypatch.setattr("subprocess.Popen", Started)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    assert cli_main(["bench", *arguments]) == 3
    assert commands == [[sys.executable, "-m", *started]]
