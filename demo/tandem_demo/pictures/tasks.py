"""All tasks with their shares, and drawing questions about a scene from them."""

from collections.abc import Callable
from random import Random

from tandem_demo.pictures import overviews, questions, relations
from tandem_demo.pictures.composing import make_scene
from tandem_demo.pictures.exchange import Exchange
from tandem_demo.pictures.scene import Scene

Maker = Callable[[Scene, Random], Exchange | None]

SMALLTALK = {
    "Hello!": "Hello! Ask me about the picture.",
    "Who are you?": "I am Tandem's picture demo model.",
    "What can you do?": "I can tell you about shapes, colours, digits, numbers and places in a picture.",
    "Thank you!": "You are welcome.",
}


def make_smalltalk(scene: Scene, rng: Random) -> Exchange:
    """Something that has nothing to do with the picture."""
    question = rng.choice(list(SMALLTALK))
    return Exchange("smalltalk", question, SMALLTALK[question])


MIX: tuple[tuple[Maker, int], ...] = (
    (questions.make_what, 10),
    (questions.make_shape, 10),
    (questions.make_colour, 10),
    (questions.make_digit, 6),
    (questions.make_size, 5),
    (relations.make_comparison, 4),
    (overviews.make_count, 18),
    (questions.make_where, 9),
    (relations.make_relation, 24),
    (questions.make_exists, 8),
    (make_smalltalk, 1),
)
MAKERS: dict[str, tuple[Maker, ...]] = {
    "what": (questions.make_what,),
    "shape": (questions.make_shape,),
    "colour": (questions.make_colour,),
    "digit": (questions.make_digit,),
    "size": (questions.make_size, relations.make_comparison),
    "count": (overviews.make_count,),
    "where": (questions.make_where,),
    "relation": (relations.make_relation,),
    "exists": (questions.make_exists,),
    "describe": (overviews.make_description,),
    "json": (overviews.make_json,),
}
GRADED_TASKS = tuple(MAKERS)
OVERVIEW_SHARE = 0.28
"""Of scenes that are described, in words or as JSON, besides the questions."""
_MIXED, _WEIGHTS = zip(*MIX, strict=True)


def draw_exchange(scene: Scene, rng: Random) -> Exchange:
    """A question that the scene has an unambiguous answer to."""
    while True:
        exchange: Exchange | None = rng.choices(_MIXED, _WEIGHTS)[0](scene, rng)
        if exchange:
            return exchange


def draw_exchanges(scene: Scene, rng: Random, number: int) -> list[Exchange]:
    """Different questions about a scene, in some scenes with an overview first or second.

    What follows an overview can be answered from its text, without a look at the picture, so most have none.
    """
    exchanges: dict[str, Exchange] = {}
    for _ in range(number):
        exchange = draw_exchange(scene, rng)
        exchanges.setdefault(exchange.question, exchange)
    drawn = list(exchanges.values())
    if rng.random() < OVERVIEW_SHARE:
        make = rng.choice((overviews.make_description, overviews.make_json))
        drawn.insert(rng.choice((0, 0, 1)), make(scene, rng))
    return drawn


def draw_for_task(task: str, rng: Random) -> tuple[Scene, Exchange]:
    """A scene and a question of one graded task about it."""
    makers = MAKERS[task]
    while True:
        scene = make_scene(rng)
        exchange = rng.choice(makers)(scene, rng)
        if exchange:
            return scene, exchange
