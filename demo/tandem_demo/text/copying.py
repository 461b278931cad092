"""Saying exactly what was given, once or several times.

Held out are contents: a held-out phrase or string is never copied in training.
"""

from random import Random

from tandem_demo.text import words
from tandem_demo.text.split import Exchange

TASK = "copying"

ONCE = (
    "Say exactly: {text}",
    "Say exactly: {text}",
    "Repeat after me: {text}",
    "Repeat: {text}",
    "repeat: {text}",
    "Say: {text}",
    'Say "{text}".',
    'Repeat "{text}".',
    "Copy this text: {text}",
    "Echo: {text}",
    "Please repeat exactly: {text}",
    'Write exactly "{text}" and nothing else.',
)
SEVERAL = (
    "Say {text} {times} times.",
    "Say {text} {times} times",
    'Say "{text}" {times} times.',
    'Repeat "{text}" {times} times.',
    "Repeat {times} times: {text}",
    "Write the following {times} times: {text}",
    "Say this {times} times: {text}",
)


def plain_words(rng: Random) -> str:
    """One to eight words."""
    return " ".join(words.word(rng) for _ in range(rng.randint(1, 8)))


def sentence(rng: Random) -> str:
    """Words with a capital, a comma perhaps, and a full stop, question mark or exclamation mark."""
    parts = [words.word(rng) if rng.random() < 0.8 else words.name(rng) for _ in range(rng.randint(2, 9))]
    if rng.random() < 0.3:
        parts[0] += ","
    text = " ".join(parts)
    return text[0].upper() + text[1:] + rng.choice(".?!")


def string(rng: Random) -> str:
    """Three to twelve letters and digits, or a number."""
    alphabet = rng.choice(
        (words.LETTERS, "0123456789", words.LETTERS + "0123456789", "ABCDEFGHKLMNPQRSTXYZ-0123456789")
    )
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(3, 12)))


def unicode_text(rng: Random) -> str:
    """Signs and words of other scripts, among plain words."""
    return " ".join(
        rng.choice(words.UNICODE) if rng.random() < 0.7 else words.word(rng) for _ in range(rng.randint(1, 4))
    )


def content(rng: Random) -> str:
    """Something to copy."""
    kind = rng.random()
    if kind < 0.35:
        return plain_words(rng)
    if kind < 0.6:
        return sentence(rng)
    return string(rng) if kind < 0.88 else unicode_text(rng)


def make(rng: Random) -> Exchange:
    """One copying exchange, a third of them several times over, joined by spaces."""
    if rng.random() < 0.65:
        text = content(rng)
        return Exchange(TASK, rng.choice(ONCE).format(text=text), text, f"copying {text}")
    text = " ".join(words.word(rng) for _ in range(rng.randint(1, 3)))
    if rng.random() < 0.2:
        text = string(rng) if rng.random() < 0.5 else rng.choice(words.UNICODE)
    times = rng.randint(2, 8)
    shown = words.NUMBER_WORDS[times] if rng.random() < 0.5 else str(times)
    question = rng.choice(SEVERAL).format(text=text, times=shown)
    return Exchange(TASK, question, " ".join([text] * times), f"copying {text}")
