"""Counting up and down, and counting the items of a list.

Held out are ranges (first and last number, both directions) and lists.
"""

from random import Random

from tandem_demo.text import words
from tandem_demo.text.split import Exchange

TASK = "counting"
LONGEST_COUNT = 30

UP = ("Count from {low} to {high}.", "count from {low} to {high}", "Please count from {low} to {high}.")
FROM_ONE = (
    "Count to {high}.",
    "Count to {high}",
    "count to {high}",
    "Count up to {high}.",
    "Please count to {high}.",
)
DOWN = (
    "Count down from {high} to {low}.",
    "Count backwards from {high} to {low}.",
    "count down from {high} to {low}",
)
ITEMS = (
    "How many items are in this list: {items}",
    "How many items are in this list? {items}",
    "Count the items: {items}",
    "How many items are there? {items}",
)


def make_range(rng: Random) -> Exchange:
    """Count from one number to another, at most `LONGEST_COUNT` numbers."""
    low = 1 if rng.random() < 0.5 else rng.randint(0, 80)
    high = low + rng.randint(1, LONGEST_COUNT - 1)
    numbers = [str(number) for number in range(low, high + 1)]
    frames = UP if low != 1 else UP + FROM_ONE * 2
    if rng.random() < 0.25:
        frames, numbers = DOWN, numbers[::-1]
    question = rng.choice(frames).format(low=low, high=high)
    return Exchange(TASK, question, ", ".join(numbers), f"count {low} {high}")


def make_items(rng: Random) -> Exchange:
    """Count a list of two to ten words."""
    items = [words.word(rng) for _ in range(rng.randint(2, 10))]
    question = rng.choice(ITEMS).format(items=", ".join(items))
    return Exchange(TASK, question, f"There are {len(items)} items.", f"count {' '.join(items)}")


def make(rng: Random) -> Exchange:
    """One counting exchange."""
    return make_range(rng) if rng.random() < 0.6 else make_items(rng)
