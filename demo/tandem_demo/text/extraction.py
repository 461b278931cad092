"""A few sentences and the wanted keys -> a JSON object with those keys in that order.

Held out are descriptions: all values of the text together, whatever the wording and the keys asked for.
"""

import json
from collections.abc import Callable
from random import Random

from tandem_demo.text import words
from tandem_demo.text.split import Exchange
from tandem_demo.text.words import with_article

TASK = "extraction"

Record = dict[str, str | int]

FRAMES = (
    "Extract {keys} as JSON: {text}",
    "{text}\nAnswer as JSON with the keys {keys}.",
    "{text} Answer as JSON: {keys}",
    "Give me {keys} as JSON. {text}",
    "Write {keys} as a JSON object.\n\n{text}",
    "Text: {text}\nJSON keys: {keys}",
    "Read the text and answer as JSON with {keys}: {text}",
)


def person(rng: Random) -> tuple[Record, str]:
    """A person's name, age, city and job, perhaps pet and hobby."""
    record: Record = {
        "name": words.name(rng),
        "age": rng.randint(5, 99),
        "city": _place(rng),
        "job": rng.choice(words.JOBS),
    }
    job = with_article(str(record["job"]))
    text = rng.choice(
        (
            "{name} is {age} years old, lives in {city} and works as {a_job}.",
            "{name}, {age}, is {a_job} from {city}.",
            "My name is {name}. I am {age} and I live in {city}. I work as {a_job}.",
            "In {city} there lives {a_job} called {name}, who is {age} years old.",
            "{name} is {a_job} in {city}. {name} is {age}.",
        )
    ).format(a_job=job, **record)
    extra = rng.random()
    if extra < 0.35:
        record["pet"] = rng.choice(words.PETS)
        text += f" {record['name']} has {with_article(str(record['pet']))}."
    if 0.2 < extra < 0.5:
        record["hobby"] = rng.choice(words.HOBBIES)
        text += f" {record['name']} likes {record['hobby']}."
    return record, text


def thing(rng: Random) -> tuple[Record, str]:
    """Something for sale: item, color, material, price."""
    record: Record = {
        "item": rng.choice(words.GOODS) if rng.random() < 0.85 else words.made_up_word(rng),
        "color": rng.choice(words.COLOURS),
        "material": rng.choice(words.MATERIALS),
        "price": rng.randint(1, 400),
    }
    text = rng.choice(
        (
            "The {item} is {color}, made of {material} and costs {price} euros.",
            "For sale: a {color} {item} made of {material}, {price} dollars.",
            "I bought a {color} {item} for {price} euros. It is made of {material}.",
            "This {item} costs {price} dollars. It is made of {material}, and its color is {color}.",
        )
    )
    return record, text.format(**record)


def event(rng: Random) -> tuple[Record, str]:
    """Something that takes place: event, day, hour, city."""
    record: Record = {
        "event": rng.choice(words.EVENTS),
        "day": rng.choice(words.DAYS),
        "hour": rng.randint(1, 23),
        "city": _place(rng),
    }
    text = rng.choice(
        (
            "The {event} is on {day} at {hour} o'clock in {city}.",
            "On {day} there is a {event} in {city}. It starts at {hour} o'clock.",
            "Come to {city} on {day}: the {event} begins at {hour} o'clock.",
        )
    )
    return record, text.format(**record)


def order(rng: Random) -> tuple[Record, str]:
    """Somebody orders things: customer, item, quantity, day."""
    record: Record = {
        "customer": words.name(rng),
        "item": rng.choice(words.GOODS + words.SMALL_THINGS),
        "quantity": rng.randint(2, 99),
        "day": rng.choice(words.DAYS),
    }
    text = rng.choice(
        (
            "{customer} ordered {quantity} pieces of the item {item} on {day}.",
            "On {day}, {customer} bought this item: {item}, quantity {quantity}.",
            "Order for {customer}: {quantity} x {item}, to be delivered on {day}.",
        )
    )
    return record, text.format(**record)


DOMAINS: tuple[Callable[[Random], tuple[Record, str]], ...] = (person, person, thing, event, order)


def make(rng: Random) -> Exchange:
    """One extraction: a text, some of its keys in any order, and their JSON object."""
    record, text = rng.choice(DOMAINS)(rng)
    keys = rng.sample(list(record), rng.randint(1, len(record)))
    answer = json.dumps({key: record[key] for key in keys}, ensure_ascii=False)
    values = " ".join(str(record[key]) for key in sorted(record))
    question = rng.choice(FRAMES).format(keys=_listed(rng, keys), text=text)
    return Exchange(TASK, question, answer, f"extraction {values}")


def _place(rng: Random) -> str:
    return words.made_up_word(rng).capitalize() if rng.random() < 0.2 else rng.choice(words.CITIES)


def _listed(rng: Random, keys: list[str]) -> str:
    """The keys as a person would list them."""
    style = rng.random()
    if style < 0.2:
        keys = [f'"{key}"' for key in keys]
    if style < 0.6 or len(keys) == 1:
        return ", ".join(keys)
    return f"{', '.join(keys[:-1])} and {keys[-1]}"
