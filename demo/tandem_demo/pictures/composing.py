"""Making scenes up: how many items, of what kinds and colours, where, on what background."""

import math
from collections.abc import Sequence
from random import Random

from tandem_demo.pictures.scene import (
    BORDER_MARGIN,
    BORDERS,
    COLOURS,
    DIGITS,
    LARGE_RADIUS,
    SHAPES,
    SMALL_RADIUS,
    Background,
    Item,
    Rgb,
    Scene,
    in_reading_order,
)

MAX_ITEMS = 6
NUM_ITEMS_WEIGHTS = (16, 24, 20, 16, 14, 10)
"""Of scenes with 1, 2, 3, … items."""
GAP = 0.03
"""Least distance between two items' surrounding circles, and half as much to the picture's edge."""
SAME_ROW_STEP = 0.06
"""Least difference in x of two items in one row of places, so that reading order is never in doubt."""
MIN_CONTRAST = 100.0
"""Least distance in RGB between the background and an item."""
_BACKGROUND_STYLES = ("plain", "gradient", "blotches", "stripes")
_TRIES = 40


def make_scene(rng: Random, num_items: int | None = None) -> Scene:
    """A scene with the given number of items, or with 1 to `MAX_ITEMS`."""
    wanted = num_items or rng.choices(range(1, MAX_ITEMS + 1), NUM_ITEMS_WEIGHTS)[0]
    kinds, colours = _choices(rng)
    while True:
        items: list[Item] = []
        for _ in range(_TRIES):
            item = _make_item(rng, rng.choice(kinds), rng.choice(colours))
            if all(_apart(item, other) for other in items):
                items.append(item)
            if len(items) == wanted:
                noise = rng.choice((0.0, 0.0, rng.uniform(1, 12)))
                return Scene(in_reading_order(items), make_background(rng, items), noise, rng.getrandbits(32))


def _choices(rng: Random) -> tuple[Sequence[str], Sequence[str]]:
    """The kinds and colours to choose from; now and then few, so that there is something to count."""
    kinds: list[str] = [*SHAPES, rng.choice(DIGITS), rng.choice(DIGITS)]
    colours = list(COLOURS)
    if rng.random() < 0.35:
        kinds = rng.sample(kinds, rng.randint(1, 2))
    if rng.random() < 0.3:
        colours = rng.sample(colours, rng.randint(1, 3))
    return kinds, colours


def _make_item(rng: Random, kind: str, colour: str) -> Item:
    red, green, blue = (min(255, max(0, level + rng.randint(-10, 10))) for level in COLOURS[colour])
    radius = rng.uniform(*rng.choice((SMALL_RADIUS, LARGE_RADIUS)))
    x, y = _coordinate(rng, radius), _coordinate(rng, radius)
    angle = rng.uniform(-8, 8) if kind in DIGITS else rng.uniform(-18, 18)
    return Item(kind, colour, (red, green, blue), x, y, radius, angle)


def _coordinate(rng: Random, radius: float) -> float:
    """A centre's x or y: inside the picture and away from the borders between places."""
    low = radius + GAP / 2
    while True:
        value = rng.uniform(low, 1 - low)
        if all(abs(value - border) >= BORDER_MARGIN for border in BORDERS):
            return value


def _apart(first: Item, second: Item) -> bool:
    distance = math.hypot(first.x - second.x, first.y - second.y)
    in_order = first.row != second.row or abs(first.x - second.x) >= SAME_ROW_STEP
    return in_order and distance >= first.radius + second.radius + GAP


def make_background(rng: Random, items: list[Item]) -> Background:
    """A background that every item stands out from."""
    for _ in range(_TRIES):
        first = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        second = _near(rng, first)
        if all(_contrast(tint, item.rgb) >= MIN_CONTRAST for tint in (first, second) for item in items):
            return Background(rng.choice(_BACKGROUND_STYLES), first, second, rng.uniform(0, 360))
    return Background("plain", (128, 128, 128), (128, 128, 128), 0.0)


def _near(rng: Random, tint: Rgb) -> Rgb:
    red, green, blue = (min(255, max(0, level + rng.randint(-40, 40))) for level in tint)
    return red, green, blue


def _contrast(first: Rgb, second: Rgb) -> float:
    return math.dist(first, second)
