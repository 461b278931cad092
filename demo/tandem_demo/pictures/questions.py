"""Questions about single items: what, which shape, which colour, which digit, which size, where, is there."""

from random import Random

from tandem_demo.pictures.exchange import Exchange, capitalized, described, named, refer
from tandem_demo.pictures.scene import COLOURS, DIGITS, KINDS, SHAPES, Scene, only, place_phrase

WHAT_ALONE = ("What is in the picture?", "What is this?", "What do you see?", "What is shown here?")
WHAT_AT = ("What is {}?", "What is {} of the picture?", "What do you see {}?", "Which object is {}?")
SHAPE = ("What shape is {}?", "Which shape is {}?", "What is the shape of {}?", "What shape does {} have?")
COLOUR = (
    "What colour is {}?",
    "What color is {}?",
    "Which colour is {}?",
    "What is the colour of {}?",
    "Which colour does {} have?",
)
DIGIT = (
    "Which digit is in the picture?",
    "What digit is shown?",
    "Which digit do you see?",
    "Read the digit.",
)
DIGIT_OF = ("Which digit is {}?", "What digit is {}?", "Read the {} digit.", "What is the {} digit?")
SIZE = ("Is {} small or large?", "How large is {}?", "What size is {}?", "Is {} large or small?")
WHERE = ("Where is {}?", "Where in the picture is {}?", "What is the position of {}?", "Where do you see {}?")
EXISTS = (
    "Is there a {}?",
    "Is there a {} in the picture?",
    "Do you see a {}?",
    "Does the picture show a {}?",
)


def make_what(scene: Scene, rng: Random) -> Exchange | None:
    """Size, colour and kind of the only item, or of the only one in its place."""
    if len(scene.items) == 1 and rng.random() < 0.5:
        return Exchange("what", rng.choice(WHAT_ALONE), capitalized(f"{described(scene.items[0])}."))
    alone = only(scene, lambda item: item.position)
    if not alone:
        return None
    item = rng.choice(alone)
    question = rng.choice(WHAT_AT).format(place_phrase(item.position))
    return Exchange("what", question, capitalized(f"{described(item)}."))


def make_shape(scene: Scene, rng: Random) -> Exchange | None:
    """The kind of an item known by its colour or place."""
    found = refer(scene, rng, hide="kind")
    if not found:
        return None
    item, phrase = found
    article = "the" if item.kind in DIGITS else "a"
    return Exchange("shape", rng.choice(SHAPE).format(phrase), f"It is {article} {item.kind}.")


def make_colour(scene: Scene, rng: Random) -> Exchange | None:
    """The colour of an item known by its kind or place."""
    found = refer(scene, rng, hide="colour")
    if not found:
        return None
    item, phrase = found
    return Exchange("colour", rng.choice(COLOUR).format(phrase), capitalized(f"{phrase} is {item.colour}."))


def make_digit(scene: Scene, rng: Random) -> Exchange | None:
    """The only digit, or the only one of its colour."""
    digits = [item for item in scene.items if item.family == "digit"]
    if len(digits) == 1 and rng.random() < 0.7:
        return Exchange("digit", rng.choice(DIGIT), f"It is a {digits[0].kind[-1]}.")
    colours = [item.colour for item in digits]
    alone = [item for item in digits if colours.count(item.colour) == 1]
    if not alone:
        return None
    item = rng.choice(alone)
    return Exchange("digit", rng.choice(DIGIT_OF).format(item.colour), f"It is a {item.kind[-1]}.")


def make_size(scene: Scene, rng: Random) -> Exchange | None:
    """Whether an item is small or large."""
    found = refer(scene, rng, hide="size")
    if not found:
        return None
    item, phrase = found
    return Exchange("size", rng.choice(SIZE).format(phrase), capitalized(f"{phrase} is {item.size}."))


def make_where(scene: Scene, rng: Random) -> Exchange | None:
    """Which of the nine places an item is in."""
    found = refer(scene, rng, hide="position")
    if not found:
        return None
    item, phrase = found
    answer = capitalized(f"{phrase} is {place_phrase(item.position)}.")
    return Exchange("where", rng.choice(WHERE).format(phrase), answer)


def make_exists(scene: Scene, rng: Random) -> Exchange:
    """Whether there is an item of a colour and kind; half the time there is not."""
    item = rng.choice(scene.items)
    name = named(item)
    if rng.random() < 0.5:
        # Often something that differs from an item in one thing only.
        name = f"{rng.choice(list(COLOURS))} {item.kind}"
        if rng.random() < 0.6:
            name = f"{item.colour} {rng.choice(SHAPES if rng.random() < 0.8 else KINDS)}"
    there = any(named(other) == name for other in scene.items)
    answer = f"Yes, there is a {name}." if there else f"No, there is no {name}."
    return Exchange("exists", rng.choice(EXISTS).format(name), answer)
