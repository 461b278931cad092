"""`tandem serve` and `tandem demo`, with stand-ins for the services."""

import importlib.util
import os
import signal
import subprocess
import textwrap
from pathlib import Path

import pytest

from support.cli_process import ROOT, TANDEM, TIMEOUT_S, environment
from support.scripted_inference import running
from tandem.cli import services

STAND_IN = """
    import os, signal, sys, threading
    sys.path.insert(0, {root!r})
    from support.scripted_inference import ScriptedInference, running

    print("arguments:", __package__, *sys.argv[1:], flush=True)
    if os.environ.get("DYING") == __package__:
        sys.exit(7)
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    with running(ScriptedInference(), sys.argv[sys.argv.index("--listen") + 1]):
        print("up:", __package__, os.getpid(), flush=True)
        stopped.wait({timeout_s})
    print("stopped:", __package__, flush=True)
"""


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A folder with packages by the names of the two services, to be run in; healthy at once."""
    for name in ("engine_service", "tokenizer_service"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        source = textwrap.dedent(STAND_IN).format(root=str(ROOT / "tests"), timeout_s=TIMEOUT_S)
        (tmp_path / name / "__main__.py").write_text(source)
    return tmp_path


def start_serve(stand_ins: Path, *arguments: str, **more: str) -> tuple[subprocess.Popen[str], str, str]:
    listen, engine = services.free_address(), services.free_address()
    process = subprocess.Popen(
        [*TANDEM, "serve", "--listen", listen, "--engine-listen", engine, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=stand_ins,
        env=environment(**more),
    )
    return process, listen, engine


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_serve_starts_and_stops_both(stand_ins: Path, number: signal.Signals) -> None:
    flags = ["--model=m", "--workers=2", "--fake", "--engine-flag=--a=1", "--tokenizer-flag=--b=2"]
    process, listen, engine = start_serve(stand_ins, *flags)
    assert process.stdout is not None
    assert process.stdout.readline() == f"{listen} is ready. In another terminal:\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0
    assert f"arguments: engine_service --listen {engine} --ends-with-input --model m --fake --a=1\n" in said
    tokenizer = f"--listen {listen} --ends-with-input --model m --engine {engine} --workers 2 --b=2"
    assert f"arguments: tokenizer_service {tokenizer}\n" in said
    # The tokenizer service first, and both before the command.
    assert said.endswith("stopped: tokenizer_service\nstopped: engine_service\nboth services have stopped\n")


@pytest.mark.parametrize(
    ("dying", "name", "other"),
    [
        ("engine_service", "engine service", "tokenizer_service"),
        ("tokenizer_service", "tokenizer service", "engine_service"),
    ],
    ids=["engine", "tokenizer"],
)
def test_serve_fails_when_a_service_fails_to_start(
    stand_ins: Path, dying: str, name: str, other: str
) -> None:
    process, _, _ = start_serve(stand_ins, DYING=dying)
    _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert said.endswith(f"tandem: the {name} ended with status 7; its last lines above say why\n")
    assert f"up: {other}" not in said or f"stopped: {other}" in said


def test_serve_stops_the_other_when_a_service_dies(stand_ins: Path) -> None:
    process, _, _ = start_serve(stand_ins)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    for line in process.stderr:
        if line.startswith("up: engine_service"):
            os.kill(int(line.split()[2]), signal.SIGKILL)
            break
    _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "stopped: tokenizer_service\n" in said
    assert said.endswith("the engine service ended by SIGKILL; its last lines above say why\n")


def test_serve_refuses_an_address_that_is_taken(stand_ins: Path) -> None:
    with running(None) as taken:
        process, _, _ = start_serve(stand_ins, "--listen", taken)
        _, said = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert said == f"tandem: cannot listen on {taken}: Address already in use\n"


def test_services_that_are_not_installed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "transformers" else True)
    with pytest.raises(services.ServiceError, match=r"pip install 'tandem-llm\[tokenizer\]'"):
        services.Services("demo", services.free_address(), services.free_address())


def run_demo(stand_ins: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TANDEM, "demo", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=stand_ins,
        env=environment(**more),
    )


def test_the_demo_asks_one_model_and_stops(stand_ins: Path) -> None:
    finished = run_demo(stand_ins, "--model=m", "--question", "Are you there ?")
    assert finished.returncode == 0
    assert "\n> Are you there ?\nAre you there ? .\n" in finished.stdout
    assert "tokens/s" in finished.stdout
    assert finished.stderr.endswith("stopped: tokenizer_service\nstopped: engine_service\n")


def test_the_demo_fails_when_a_service_fails(stand_ins: Path) -> None:
    finished = run_demo(stand_ins, DYING="engine_service")
    assert finished.returncode == 1
    assert "tandem: the engine service ended with status 7" in finished.stderr


def test_the_demo_fails_when_swapped_shapes_change_no_answer(stand_ins: Path) -> None:
    # The stand-ins answer with the question, whatever the picture shows.
    finished = run_demo(stand_ins, "--out", str(stand_ins / "pictures"))
    assert finished.returncode == 1
    assert f"A picture, saved as {stand_ins}/pictures/picture.png\n" in finished.stdout
    alike = "tandem: 'What is at the top left?' was answered alike before and after the swap"
    assert alike in finished.stderr
    assert (stand_ins / "pictures/swapped.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_fails_when_its_pictures_cannot_be_saved(stand_ins: Path) -> None:
    (stand_ins / "file").touch()
    finished = run_demo(stand_ins, "--out", str(stand_ins / "file"))
    assert finished.returncode == 1
    assert f"tandem: the pictures could not be drawn in {stand_ins}/file: FileExistsError" in finished.stderr
