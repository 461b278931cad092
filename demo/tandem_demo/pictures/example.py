"""Draw the demo's picture, and the same with two shapes swapped, and print what to ask about them.

    python3 -m tandem_demo.pictures.example --out DIR

writes picture.png and swapped.png to DIR and prints one JSON object: their paths, which two were swapped, and
the questions with the right answers for each. It needs neither torch nor the services.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tandem_demo.pictures.drawing import draw
from tandem_demo.pictures.scene import COLOURS, Background, Item, Scene, swap

SIDE = 384
SWAPPED = (0, 1)
"""The places of the two items that change places."""
CHANGE = "the star and the circle"
"""Those two in words."""


@dataclass(frozen=True)
class Ask:
    """A question with its right answer about the picture, and about the swapped one."""

    question: str
    answer: str
    answer_when_swapped: str


ASKS = (
    Ask(
        "What is at the top left?",
        "A large red star.",
        "A large blue circle.",
    ),
    Ask(
        "Is the star left or right of the circle?",
        "The star is left of the circle.",
        "The star is right of the circle.",
    ),
    Ask(
        "Describe the picture.",
        "I see a large red star at the top left, a large blue circle at the top right "
        "and a small yellow digit 7 at the bottom.",
        "I see a large blue circle at the top left, a large red star at the top right "
        "and a small yellow digit 7 at the bottom.",
    ),
)


def make_example() -> Scene:
    """A star, a circle and a digit on a light grey."""
    items = (
        _item("star", "red", 0.22, 0.24, 0.14),
        _item("circle", "blue", 0.77, 0.22, 0.14),
        _item("digit 7", "yellow", 0.51, 0.80, 0.085),
    )
    return Scene(items, Background("gradient", (200, 206, 214), (168, 186, 206), 70.0), noise=0.0, seed=7)


def _item(kind: str, colour: str, x: float, y: float, radius: float) -> Item:
    return Item(kind, colour, COLOURS[colour], x, y, radius, 0.0)


def main() -> None:
    """Draw, write, print."""
    parser = argparse.ArgumentParser(
        description="Draw the demo's picture, and the same with two shapes swapped."
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for picture.png and swapped.png")
    directory: Path = parser.parse_args().out
    directory.mkdir(parents=True, exist_ok=True)
    scene = make_example()
    draw(scene, SIDE).save(directory / "picture.png")
    draw(swap(scene, *SWAPPED), SIDE).save(directory / "swapped.png")
    paths = {"picture": str(directory / "picture.png"), "swapped": str(directory / "swapped.png")}
    print(json.dumps({**paths, "change": CHANGE, "asks": [asdict(each) for each in ASKS]}, indent=1))


if __name__ == "__main__":
    main()
