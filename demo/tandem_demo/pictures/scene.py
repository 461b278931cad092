"""What is in a picture: kinds, colours and places of its items, and the words for them.

Lengths are shares of the picture's side; x goes right, y goes down. The side is divided into three by three
places, and no item's centre is near a border between two, so that every item has one right place.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

Rgb = tuple[int, int, int]

SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")
DIGITS = tuple(f"digit {number}" for number in range(10))
KINDS = SHAPES + DIGITS
COLOURS: dict[str, Rgb] = {
    "red": (215, 35, 35),
    "orange": (245, 140, 25),
    "yellow": (245, 220, 50),
    "green": (40, 160, 60),
    "blue": (40, 80, 215),
    "purple": (140, 50, 170),
    "white": (248, 248, 248),
    "black": (20, 20, 20),
}
SMALL_RADIUS = (0.070, 0.088)
LARGE_RADIUS = (0.120, 0.150)
BORDERS = (1 / 3, 2 / 3)
BORDER_MARGIN = 0.03
_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")


@dataclass(frozen=True)
class Item:
    """One thing in the picture."""

    kind: str
    colour: str
    rgb: Rgb
    """The colour's own shade."""
    x: float
    y: float
    radius: float
    angle: float
    """Clockwise, in degrees."""

    @property
    def size(self) -> str:
        """`small` or `large`; there is nothing between."""
        return "large" if self.radius >= LARGE_RADIUS[0] else "small"

    @property
    def family(self) -> str:
        """The kind; `digit` for every digit."""
        return self.kind.partition(" ")[0]

    @property
    def row(self) -> int:
        """0 at the top to 2 at the bottom."""
        return sum(self.y > border for border in BORDERS)

    @property
    def position(self) -> str:
        """Such as `top left`, `top` or `middle`."""
        column = sum(self.x > border for border in BORDERS)
        return f"{_ROWS[self.row]} {_COLUMNS[column]}".strip() or "middle"


@dataclass(frozen=True)
class Background:
    """What lies behind the items."""

    style: str
    """`plain`, `gradient`, `blotches` or `stripes`."""
    first: Rgb
    second: Rgb
    angle: float
    """Direction of a gradient or of stripes, in degrees."""


@dataclass(frozen=True)
class Scene:
    """Everything that a picture is drawn from."""

    items: tuple[Item, ...]
    """In reading order: by row of places, then from left to right."""
    background: Background
    noise: float
    """Standard deviation, in levels of 255."""
    seed: int
    """Of the noise and the blotches."""


def in_reading_order(items: list[Item]) -> tuple[Item, ...]:
    """By row of places, then from left to right."""
    return tuple(sorted(items, key=lambda item: (item.row, item.x)))


def swap(scene: Scene, first: int, second: int) -> Scene:
    """The same picture with two items exchanged; each takes the other's place and size."""
    items = list(scene.items)
    items[first], items[second] = (
        _dressed(items[first], items[second]),
        _dressed(items[second], items[first]),
    )
    return replace(scene, items=tuple(items))


def _dressed(place: Item, look: Item) -> Item:
    return replace(place, kind=look.kind, colour=look.colour, rgb=look.rgb, angle=look.angle)


def only(scene: Scene, says: Callable[[Item], str]) -> list[Item]:
    """The items for which `says` gives a word that no other item of the scene has."""
    counts = Counter(says(item) for item in scene.items)
    return [item for item in scene.items if counts[says(item)] == 1]


def place_phrase(position: str) -> str:
    """`at the top left`, `on the left`, `in the middle`."""
    if position == "middle":
        return "in the middle"
    return f"{'on' if position in ('left', 'right') else 'at'} the {position}"
