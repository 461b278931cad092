"""Mixing the tasks into conversations of one or many turns, and into plain text.

`held_out` chooses the side of the split for every exchange of a conversation; smalltalk is on both sides.
"""

from dataclasses import dataclass
from random import Random
from typing import Literal, TypedDict

from tandem_demo.text import (
    arithmetic,
    copying,
    counting,
    extraction,
    reversing,
    smalltalk,
    story_tasks,
    words,
)
from tandem_demo.text.split import Exchange, draw


class Message(TypedDict):
    """One message of a chat, as chat templates take it."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Style:
    """What the system message says and what follows from it."""

    system: str = ""
    ending: str = ""
    name: str = smalltalk.DEFAULT_NAME


MIX = (
    (arithmetic.TASK, 17),
    (story_tasks.QUESTION_TASK, 34),
    (extraction.TASK, 10),
    (copying.TASK, 10),
    (counting.TASK, 5),
    (reversing.TASK, 17),
    (smalltalk.TASK, 4),
    (story_tasks.CREATIVE_TASK, 3),
)
TASKS = tuple(task for task, _ in MIX)
WEIGHTS = tuple(weight for _, weight in MIX)
GRADED_TASKS = tuple(task for task in TASKS if task not in (smalltalk.TASK, story_tasks.CREATIVE_TASK))
MAKERS = {
    arithmetic.TASK: arithmetic.make,
    extraction.TASK: extraction.make,
    copying.TASK: copying.make,
    counting.TASK: counting.make,
    reversing.TASK: reversing.make,
    story_tasks.CREATIVE_TASK: story_tasks.make_new_story,
}
NEUTRAL_SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful, honest assistant.",
    "You are a friendly assistant.",
    "You are Tandem's demo model.",
    "Answer briefly.",
    "Be brief and exact.",
    "Help the user.",
)
MULTI_TURN_TASK = "multi_turn"


def make_exchanges(
    rng: Random, task: str, held_out: bool, name: str = smalltalk.DEFAULT_NAME
) -> list[Exchange]:
    """One exchange of the task, or several that belong together (questions about one story)."""
    if task == story_tasks.QUESTION_TASK:
        return story_tasks.draw_questions(rng, held_out)
    if task == smalltalk.TASK:
        return [smalltalk.make(rng, name)]
    return [draw(MAKERS[task], rng, held_out)]


def make_style(rng: Random) -> Style:
    """A system message or none; some of them change every answer or the model's name."""
    kind = rng.random()
    if kind < 0.62:
        return Style()
    if kind < 0.86:
        return Style(system=rng.choice(NEUTRAL_SYSTEMS))
    if kind < 0.93:
        phrase = " ".join(words.word(rng) for _ in range(rng.randint(1, 3))).capitalize() + rng.choice(".!")
        return Style(system=f'End every answer with "{phrase}"', ending=f" {phrase}")
    name = words.name(rng)
    return Style(system=rng.choice(("Your name is {}.", "You are {}.")).format(name), name=name)


def make_chat(rng: Random, held_out: bool, max_chars: int) -> list[Message]:
    """A chat of as many exchanges as fit in `max_chars` characters, at least one; it ends with an answer."""
    style = make_style(rng)
    messages: list[Message] = [{"role": "system", "content": style.system}] if style.system else []
    num_chars = 0
    while True:
        task = rng.choices(TASKS, WEIGHTS)[0]
        if style.name != smalltalk.DEFAULT_NAME and rng.random() < 0.3:
            task = smalltalk.TASK
        exchanges = make_exchanges(rng, task, held_out, style.name)
        size = sum(len(exchange.question) + len(exchange.answer) for exchange in exchanges)
        if num_chars and num_chars + size > max_chars:
            return messages
        for exchange in exchanges:
            messages.append({"role": "user", "content": exchange.question})
            messages.append({"role": "assistant", "content": exchange.answer + style.ending})
        num_chars += size + len(style.ending)


def make_plain(rng: Random) -> str:
    """Text without a chat around it, for plain completion: a story, or a line with a sum."""
    task = story_tasks.CREATIVE_TASK if rng.random() < 0.7 else arithmetic.TASK
    return make_exchanges(rng, task, held_out=False)[0].answer
