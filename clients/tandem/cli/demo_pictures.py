"""The demo's pictures: drawn, saved, shown, and asked about before and after two shapes change places."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tandem.cli.demo_question import DemoError, ask
from tandem.cli.picture import read_pictures
from tandem.client import Client

# Draws, and says where the pictures are and what to ask; a process, since this package has no Pillow.
_DRAWING = "tandem_demo.pictures.example"


def show_pictures(client: Client, out: str | None) -> None:
    """Asks the same questions about a picture and about the same with two shapes swapped.

    Args:
        client: Of a service with the picture model.
        out: The directory for the pictures; None for a new one among the temporary files.

    Raises:
        DemoError: The pictures could not be drawn, or an answer was the same for both.
        TandemError: A request failed.
    """
    drawn = _draw(out or tempfile.mkdtemp(prefix="tandem-demo-"))
    questions = [each["question"] for each in drawn["asks"]]
    print(f"\nA picture, saved as {drawn['picture']}", flush=True)
    before = _ask_about(client, drawn["picture"], questions)
    print(f"\nThe same with {drawn['change']} swapped, saved as {drawn['swapped']}", flush=True)
    after = _ask_about(client, drawn["swapped"], questions)
    for question, first, second in zip(questions, before, after, strict=True):
        if first == second:
            raise DemoError(f"{question!r} was answered alike before and after the swap: {first!r}")


def _ask_about(client: Client, path: str, questions: list[str]) -> list[str]:
    pictures = read_pictures([path])
    return [ask(client, question, *pictures).text for question in questions]


def _draw(directory: str) -> dict[str, Any]:
    command = [sys.executable, "-m", _DRAWING, "--out", str(Path(directory).expanduser())]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode != 0:
        reason = (finished.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DemoError(f"the pictures could not be drawn in {directory}: {reason}")
    drawn: dict[str, Any] = json.loads(finished.stdout)
    return drawn
