"""The picture model's scenes, and what is asked and answered about them."""

import json
import math
from collections import Counter
from random import Random

import numpy as np
import pytest
from PIL import Image

from tandem_demo.pictures.composing import GAP, MAX_ITEMS, MIN_CONTRAST, make_scene
from tandem_demo.pictures.drawing import draw
from tandem_demo.pictures.example import ASKS, SWAPPED, make_example
from tandem_demo.pictures.exchange import Exchange, references
from tandem_demo.pictures.overviews import as_record, make_count, make_description, make_json, plural
from tandem_demo.pictures.questions import make_colour, make_exists, make_shape, make_what, make_where
from tandem_demo.pictures.relations import MARGIN, OPPOSITES, holds, make_relation
from tandem_demo.pictures.scene import BORDERS, COLOURS, Item, Scene, place_phrase, swap
from tandem_demo.pictures.tasks import draw_exchange

NUM_SCENES = 250


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    rng = Random(1)
    return [make_scene(rng) for _ in range(NUM_SCENES)]


def _item(kind: str = "circle", colour: str = "red", x: float = 0.2, y: float = 0.2) -> Item:
    return Item(kind, colour, COLOURS[colour], x, y, 0.08, 0.0)


def test_a_seed_repeats_its_scenes_questions_and_pixels():
    def make(seed: int) -> tuple[Scene, Exchange, bytes]:
        rng = Random(seed)
        scene = make_scene(rng)
        return scene, draw_exchange(scene, rng), draw(scene, 96).tobytes()

    assert make(3) == make(3)
    assert make(3) != make(4)


def test_items_stand_apart_inside_the_picture_and_away_from_the_borders_of_places(scenes):
    for scene in scenes:
        assert 1 <= len(scene.items) <= MAX_ITEMS
        for index, item in enumerate(scene.items):
            for value in (item.x, item.y):
                assert item.radius < value < 1 - item.radius
                assert all(abs(value - border) > 0.02 for border in BORDERS)
            for other in scene.items[:index]:
                distance = math.hypot(item.x - other.x, item.y - other.y)
                assert distance >= item.radius + other.radius + GAP


def test_items_stand_out_from_their_background(scenes):
    for scene in scenes:
        if scene.background.first != (128, 128, 128):
            for item in scene.items:
                assert math.dist(item.rgb, scene.background.first) >= MIN_CONTRAST


@pytest.mark.parametrize("num_items", range(1, MAX_ITEMS + 1))
def test_a_scene_has_as_many_items_as_asked_for(num_items):
    assert len(make_scene(Random(num_items), num_items).items) == num_items


@pytest.mark.parametrize(
    ("x", "y", "position"),
    [(0.2, 0.2, "top left"), (0.5, 0.5, "middle"), (0.8, 0.5, "right"), (0.5, 0.9, "bottom")],
    ids=str,
)
def test_places_are_named_as_seen(x, y, position):
    assert _item(x=x, y=y).position == position


def test_an_item_is_painted_where_it_is_and_in_its_colour(scenes):
    for scene in scenes[:100]:
        pixels = np.asarray(draw(scene, 192), dtype=float)
        for item in scene.items:
            if item.kind in ("circle", "square", "star", "cross"):
                centre = pixels[round(item.y * 192), round(item.x * 192)]
                assert np.abs(centre - item.rgb).max() < 5 * scene.noise + 3


def test_sizes_of_the_same_picture_agree():
    scene = make_scene(Random(5), 3)
    small, large = draw(scene, 96), draw(scene, 192).resize((96, 96), Image.Resampling.BOX)
    difference = np.abs(np.asarray(small, dtype=float) - np.asarray(large, dtype=float))
    assert difference.mean() < 8


def test_references_mean_one_item_alone(scenes):
    for scene in scenes:
        for hide in ("", "kind", "colour", "size", "position"):
            meant: dict[str, Item] = {}
            for item, phrase in references(scene, hide=hide):
                assert meant.setdefault(phrase, item) is item


@pytest.mark.parametrize("hide", ["kind", "colour", "size", "position"])
def test_references_do_not_say_what_is_asked(scenes, hide):
    for scene in scenes:
        for item, phrase in references(scene, hide=hide):
            said = {
                "kind": item.kind,
                "colour": item.colour,
                "size": f" {item.size} ",
                "position": place_phrase(item.position),
            }
            assert said[hide] not in phrase


def test_counts_are_those_of_the_scene(scenes):
    rng = Random(6)
    for scene in scenes:
        answer = make_count(scene, rng).answer.rstrip(".").split()
        number = 0 if answer[2] == "no" else int(answer[2])
        assert number == sum(_is_counted(item, answer[3:], number) for item in scene.items)


def _is_counted(item: Item, words: list[str], number: int) -> bool:
    names = {name if number == 1 else plural(name) for name in (item.family, "object")}
    return words[-1] in names and (len(words) == 1 or words[0] == item.colour)


def test_relations_hold_in_the_scene(scenes):
    rng = Random(7)
    relations: Counter[str] = Counter()
    for scene in scenes:
        exchange = make_relation(scene, rng)
        if exchange is None:
            continue
        text = exchange.answer.removeprefix("Yes, ").removeprefix("No, ").rstrip(".").lower()
        relation = next(word for word in OPPOSITES if f" is {word} " in text)
        first, second = text.split(f" is {relation} ")
        meant = {phrase: item for item, phrase in references(scene, hide="position")}
        meant |= {f"a {item.size} {item.colour} {item.kind}": item for item in scene.items}
        assert holds(relation, meant[first], meant[second])
        relations[relation] += 1
        if exchange.answer.startswith("No"):
            assert OPPOSITES[relation] in exchange.question
    assert set(relations) == set(OPPOSITES)


@pytest.mark.parametrize("relation", OPPOSITES)
def test_a_relation_excludes_its_opposite_and_needs_the_margin(relation):
    near, far = _item(x=0.2, y=0.2), _item(x=0.2 + MARGIN, y=0.2 + MARGIN)
    closer = _item(x=0.2 + MARGIN / 2, y=0.2 + MARGIN / 2)
    assert holds(relation, near, far) == holds(OPPOSITES[relation], far, near)
    assert not (holds(relation, near, far) and holds(OPPOSITES[relation], near, far))
    assert not holds(relation, near, closer)


def test_answers_about_single_items_are_true(scenes):
    rng = Random(8)
    for scene in scenes:
        words = {item.colour for item in scene.items} | {item.kind for item in scene.items}
        for make in (make_shape, make_colour, make_what, make_where):
            exchange = make(scene, rng)
            if exchange and make is make_colour:
                assert exchange.answer.rstrip(".").split()[-1] in words
            if exchange and make is make_where:
                phrase, _, place = exchange.answer.rstrip(".").lower().partition(" is ")
                meant = {said: item for item, said in references(scene, hide="position")}
                assert place_phrase(meant[phrase].position) == place
        answer = make_exists(scene, rng).answer
        name = answer.rstrip(".").partition(" a " if answer.startswith("Yes") else " no ")[2]
        there = any(f"{item.colour} {item.kind}" == name for item in scene.items)
        assert there == answer.startswith("Yes")


def test_descriptions_list_every_item_in_reading_order(scenes):
    rng = Random(9)
    for scene in scenes:
        assert json.loads(make_json(scene, rng).answer) == [as_record(item) for item in scene.items]
        answer = make_description(scene, rng).answer
        places = [answer.find(f"{item.colour} {item.kind}") for item in scene.items]
        assert min(places) >= 0
        assert answer.count(" a ") == len(scene.items)
        assert list(scene.items) == sorted(scene.items, key=lambda item: (item.row, item.x))


def test_swapping_two_items_changes_picture_and_answers_and_nothing_else():
    rng = Random(10)
    for _ in range(50):
        scene = make_scene(rng, 3)
        swapped = swap(scene, 0, 2)
        assert swap(swapped, 0, 2) == scene
        assert [(item.x, item.y, item.radius) for item in swapped.items] == [
            (item.x, item.y, item.radius) for item in scene.items
        ]
        first, last = scene.items[0], scene.items[2]
        if (first.colour, first.kind) != (last.colour, last.kind):
            assert make_json(scene, rng).answer != make_json(swapped, rng).answer
            before, after = np.asarray(draw(scene, 96)), np.asarray(draw(swapped, 96))
            middle = scene.items[1]
            place = round(middle.y * 96), round(middle.x * 96)
            assert (before != after).any()
            assert (before[place] == after[place]).all()


def test_the_examples_answers_are_true_before_and_after_swapping():
    scene = make_example()
    for shown, answers in (
        (scene, [ask.answer for ask in ASKS]),
        (swap(scene, *SWAPPED), [ask.answer_when_swapped for ask in ASKS]),
    ):
        rng = Random(15)
        what, relation, description = answers
        first = next(item for item in shown.items if item.position == "top left")
        assert what == f"A {first.size} {first.colour} {first.kind}."
        star, circle = (
            next(item for item in shown.items if item.kind == kind) for kind in ("star", "circle")
        )
        assert holds(relation.split(" is ")[1].removesuffix(" the circle."), star, circle)
        assert description == make_description(shown, rng).answer
        assert all(math.dist(item.rgb, shown.background.second) >= 80 for item in shown.items)
    assert all(ask.answer != ask.answer_when_swapped for ask in ASKS)
