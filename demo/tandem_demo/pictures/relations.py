"""Questions about two items: which is left, right, above or below, and which is larger."""

from random import Random

from tandem_demo.pictures.exchange import Exchange, capitalized, described, refer_to_two, references
from tandem_demo.pictures.scene import Item, Scene

MARGIN = 0.12
"""Least difference of two centres in x or y for it to be asked about."""
OPPOSITES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
IS_IT = ("Is {} {} {}?", "Is {} {} {} in the picture?", "Would you say that {} is {} {}?")
EITHER = {
    "left of": ("Is {} left or right of {}?", "Is {} to the left or to the right of {}?"),
    "above": ("Is {} above or below {}?", "Is {} higher or lower than {}?"),
}
RELATIVE = ("Where is {} relative to {}?", "Where is {} compared with {}?", "Where is {}, seen from {}?")
WHAT_IS = ("What is {} {}?", "Which object is {} {}?", "What do you see {} {}?")


def holds(relation: str, first: Item, second: Item) -> bool:
    """Whether `first` is `relation` `second` by at least `MARGIN`."""
    difference = {
        "left of": second.x - first.x,
        "right of": first.x - second.x,
        "above": second.y - first.y,
        "below": first.y - second.y,
    }[relation]
    return difference >= MARGIN


def make_relation(scene: Scene, rng: Random) -> Exchange | None:
    """One of the four ways to ask about left, right, above and below."""
    way = rng.choice((_is_it, _is_it, _either, _relative, _what_is))
    return way(scene, rng)


def _two_with_relation(scene: Scene, rng: Random) -> tuple[str, Item, str, Item, str] | None:
    found = refer_to_two(scene, rng, hide="position")
    if not found:
        return None
    (first, first_phrase), (second, second_phrase) = found
    true = [relation for relation in OPPOSITES if holds(relation, first, second)]
    return (rng.choice(true), first, first_phrase, second, second_phrase) if true else None


def _is_it(scene: Scene, rng: Random) -> Exchange | None:
    found = _two_with_relation(scene, rng)
    if not found:
        return None
    relation, _, first, _, second = found
    asked = rng.choice((relation, OPPOSITES[relation]))
    answer = f"{'Yes' if asked == relation else 'No'}, {first} is {relation} {second}."
    return Exchange("relation", rng.choice(IS_IT).format(first, asked, second), answer)


def _either(scene: Scene, rng: Random) -> Exchange | None:
    found = _two_with_relation(scene, rng)
    if not found:
        return None
    relation, _, first, _, second = found
    frames = EITHER[relation if relation in EITHER else OPPOSITES[relation]]
    answer = capitalized(f"{first} is {relation} {second}.")
    return Exchange("relation", rng.choice(frames).format(first, second), answer)


def _relative(scene: Scene, rng: Random) -> Exchange | None:
    """Only where one direction is clear: at least twice as far in it as in the other."""
    found = _two_with_relation(scene, rng)
    if not found:
        return None
    relation, one, first, other, second = found
    across, down = abs(one.x - other.x), abs(one.y - other.y)
    is_clear = across >= 2 * down if relation in ("left of", "right of") else down >= 2 * across
    if not is_clear:
        return None
    answer = capitalized(f"{first} is {relation} {second}.")
    return Exchange("relation", rng.choice(RELATIVE).format(first, second), answer)


def _what_is(scene: Scene, rng: Random) -> Exchange | None:
    """Only where one item alone is in that direction, and no other is nearly so."""
    found = references(scene, hide="position")
    if not found:
        return None
    item, phrase = rng.choice(found)
    relation = rng.choice(list(OPPOSITES))
    others = [other for other in scene.items if other is not item]
    there = [other for other in others if holds(relation, other, item)]
    clear = all(holds(relation, other, item) or holds(OPPOSITES[relation], other, item) for other in others)
    if len(there) != 1 or not clear:
        return None
    answer = capitalized(f"{described(there[0])} is {relation} {phrase}.")
    return Exchange("relation", rng.choice(WHAT_IS).format(relation, phrase), answer)


LARGER = ("Which is {}, {} or {}?", "What is {}: {} or {}?")


def make_comparison(scene: Scene, rng: Random) -> Exchange | None:
    """Which of a small and a large item is larger, or smaller."""
    found = refer_to_two(scene, rng, hide="size")
    if not found or found[0][0].size == found[1][0].size:
        return None
    asked, wanted = rng.choice((("larger", "large"), ("smaller", "small")))
    phrase = next(phrase for item, phrase in found if item.size == wanted)
    question = rng.choice(LARGER).format(asked, found[0][1], found[1][1])
    return Exchange("size", question, capitalized(f"{phrase} is {asked}."))
