"""A question about a picture with its answer, and the ways to refer to an item."""

from dataclasses import dataclass
from random import Random

from tandem_demo.pictures.scene import Item, Scene, only, place_phrase


@dataclass(frozen=True)
class Exchange:
    """One question about a picture and the answer that the model should give."""

    task: str
    question: str
    answer: str


def capitalized(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def described(item: Item) -> str:
    """`a small red circle`, `a large blue digit 7`."""
    return f"a {item.size} {item.colour} {item.kind}"


def named(item: Item) -> str:
    """`red circle`, without an article."""
    return f"{item.colour} {item.kind}"


def references(scene: Scene, *, hide: str = "") -> list[tuple[Item, str]]:
    """Items with phrases that mean them alone; `hide` names what they leave unsaid (`kind`, `colour`, …)."""
    found: list[tuple[Item, str]] = []
    if hide != "kind":
        found += [(item, f"the {item.kind}") for item in only(scene, lambda item: item.kind)]
        if hide != "colour":
            found += [(item, f"the {named(item)}") for item in only(scene, named)]
            families = only(scene, lambda item: f"{item.colour} {item.family}")
            found += [(item, f"the {item.colour} {item.family}") for item in families]
        if hide not in ("colour", "size"):
            found += [(item, f"the {described(item)[2:]}") for item in only(scene, described)]
    if hide != "colour":
        found += [(item, f"the {item.colour} object") for item in only(scene, lambda item: item.colour)]
    if hide != "position":
        places = only(scene, lambda item: item.position)
        found += [(item, f"the object {place_phrase(item.position)}") for item in places]
    if len(scene.items) == 1:
        found.append((scene.items[0], "the object"))
    return found


def refer(scene: Scene, rng: Random, *, hide: str = "") -> tuple[Item, str] | None:
    """An item and a phrase for it that does not give away what `hide` names, or None if there is none."""
    found = references(scene, hide=hide)
    return rng.choice(found) if found else None


def refer_to_two(scene: Scene, rng: Random, hide: str) -> tuple[tuple[Item, str], tuple[Item, str]] | None:
    """Two different items, each with a phrase."""
    found = references(scene, hide=hide)
    first = rng.choice(found) if found else None
    others = [pair for pair in found if first and pair[0] is not first[0]]
    return (first, rng.choice(others)) if first and others else None
