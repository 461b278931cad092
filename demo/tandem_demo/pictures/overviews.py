"""Questions about the whole picture: how many, describe, describe as JSON."""

import json
from random import Random

from tandem_demo.pictures.exchange import Exchange, described
from tandem_demo.pictures.scene import COLOURS, SHAPES, Item, Scene, place_phrase

HOW_MANY = (
    "How many {} are there?",
    "How many {} are in the picture?",
    "How many {} do you see?",
    "Count the {}.",
)
DESCRIBE = (
    "Describe the picture.",
    "Describe this picture.",
    "What does the picture show?",
    "Tell me what you see.",
    "Please describe the picture.",
)
JSON = (
    "Describe the picture as JSON.",
    "List the objects as JSON.",
    "Give me the objects as JSON.",
    "What is in the picture? Answer as JSON.",
)


def plural(noun: str) -> str:
    """`circles`, `crosses`."""
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def make_count(scene: Scene, rng: Random) -> Exchange:
    """How many objects there are: all, of a family, of a colour, or of both."""
    item = rng.choice(scene.items)
    family = item.family if rng.random() < 0.85 else rng.choice(SHAPES)
    colour = item.colour if rng.random() < 0.85 else rng.choice(list(COLOURS))
    noun, adjective = rng.choice((("object", ""), (family, ""), ("object", colour), (family, colour)))
    number = sum(noun in ("object", each.family) and adjective in ("", each.colour) for each in scene.items)
    many, one = f"{adjective} {plural(noun)}".strip(), f"{adjective} {noun}".strip()
    return Exchange("count", rng.choice(HOW_MANY).format(many), how_many(number, one, many))


def how_many(number: int, one: str, many: str) -> str:
    """`There are 3 red circles.`"""
    if number == 1:
        return f"There is 1 {one}."
    return f"There are {number or 'no'} {many}."


def make_description(scene: Scene, rng: Random) -> Exchange:
    """Every item with its place, in reading order."""
    listed = [f"{described(item)} {place_phrase(item.position)}" for item in scene.items]
    text = listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
    return Exchange("describe", rng.choice(DESCRIBE), f"I see {text}.")


def make_json(scene: Scene, rng: Random) -> Exchange:
    """The same as a JSON list."""
    records = [as_record(item) for item in scene.items]
    return Exchange("json", rng.choice(JSON), json.dumps(records, separators=(",", ":")))


def as_record(item: Item) -> dict[str, str]:
    """What JSON says of an item."""
    return {"shape": item.kind, "colour": item.colour, "size": item.size, "position": item.position}
