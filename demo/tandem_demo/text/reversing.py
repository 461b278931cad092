"""Reversing lists of words, digits, and the letters of a word.

Held out are the contents that are reversed, except single listed words. Letters are written with spaces:
"Spell fox backwards." gives "x o f".
"""

from random import Random

from tandem_demo.text import words
from tandem_demo.text.split import Exchange

TASK = "reversing"

LISTS = (
    "Reverse this list: {items}",
    "Reverse the list: {items}",
    "reverse this list: {items}",
    "Write these in reverse order: {items}",
    "Say these words backwards: {items}",
)
DIGITS = ("Reverse the digits: {items}", "Reverse these digits: {items}", "Reverse the number {items}.")
SPELL = ("Spell {word}.", "Spell the word {word}.", "spell {word}", 'Spell "{word}".')
SPELL_BACKWARDS = (
    "Spell {word} backwards.",
    "Spell the word {word} backwards.",
    "spell {word} backwards",
    "Reverse the letters of {word}.",
    'Reverse the letters of the word "{word}".',
)


def make_list(rng: Random) -> Exchange:
    """Reverse two to seven words, listed with commas or spaces."""
    items = [words.word(rng) for _ in range(rng.randint(2, 7))]
    mark = rng.choice((", ", ", ", " "))
    question = rng.choice(LISTS).format(items=mark.join(items))
    return Exchange(TASK, question, mark.join(items[::-1]), f"reverse {' '.join(items)}")


def make_digits(rng: Random) -> Exchange:
    """Reverse three to eight digits, spaced or written as one number."""
    digits = [str(rng.randint(0, 9)) for _ in range(rng.randint(3, 8))]
    mark = rng.choice((" ", ""))
    question = rng.choice(DIGITS).format(items=mark.join(digits))
    return Exchange(TASK, question, mark.join(digits[::-1]), f"reverse {''.join(digits)}")


def make_letters(rng: Random) -> Exchange:
    """Spell a word, forwards or backwards.

    Listed words are never held out: many are one token, whose letters can only be learnt by heart.
    """
    is_listed = rng.random() < 0.5
    word = rng.choice(words.ALL_WORDS) if is_listed else words.made_up_word(rng)
    frames, letters = (SPELL, word) if rng.random() < 0.4 else (SPELL_BACKWARDS, word[::-1])
    key = "" if is_listed else f"spell {word}"
    return Exchange(TASK, rng.choice(frames).format(word=word), " ".join(letters), key)


def make(rng: Random) -> Exchange:
    """One reversing exchange."""
    kind = rng.random()
    if kind < 0.45:
        return make_list(rng)
    return make_digits(rng) if kind < 0.65 else make_letters(rng)
