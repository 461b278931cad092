"""Word lists, and words that are in no list, so that copying is learnt and not the list."""

from pathlib import Path
from random import Random


def read_lists(path: Path) -> dict[str, list[str]]:
    """The lists of a file in which a line "[name]" starts a list and the other lines hold its words."""
    lists: dict[str, list[str]] = {}
    current: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = lists.setdefault(line.strip("[]"), [])
        else:
            current += line.split()
    return lists


LISTS = read_lists(Path(__file__).parent / "word_lists.txt")
NAMES = LISTS["names"]
ANIMALS = LISTS["animals"]
PLACES = LISTS["places"]
COLOURS = LISTS["colours"]
BELONGINGS = LISTS["belongings"]
SMALL_THINGS = LISTS["small_things"]
SPOTS = LISTS["spots"]
FOODS = LISTS["foods"]
FEELINGS = LISTS["feelings"]
WEATHERS = LISTS["weathers"]
CITIES = LISTS["cities"]
JOBS = LISTS["jobs"]
PETS = LISTS["pets"]
HOBBIES = LISTS["hobbies"]
MATERIALS = LISTS["materials"]
GOODS = LISTS["goods"]
EVENTS = LISTS["events"]
DAYS = LISTS["days"]
NUMBER_WORDS = LISTS["number_words"]
UNICODE = LISTS["unicode"]
COMMON_WORDS = LISTS["common_words"]

ALL_WORDS = tuple(
    dict.fromkeys(
        COMMON_WORDS
        + ANIMALS
        + PLACES
        + COLOURS
        + BELONGINGS
        + SMALL_THINGS
        + FOODS
        + JOBS
        + HOBBIES
        + MATERIALS
        + GOODS
    )
)

CONSONANTS = "bcdfghjklmnprstvwz"
VOWELS = "aeiou"
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def made_up_word(rng: Random) -> str:
    """A word of two or three syllables that is probably in no list, such as 'tamiko'."""
    syllables = [
        rng.choice(CONSONANTS) + rng.choice(VOWELS) + rng.choice(("", "", "n", "r", "l", "s"))
        for _ in range(rng.randint(2, 3))
    ]
    return "".join(syllables)


def name(rng: Random) -> str:
    """A first name; one in five is made up."""
    return made_up_word(rng).capitalize() if rng.random() < 0.2 else rng.choice(NAMES)


def word(rng: Random) -> str:
    """A lower-case word; one in five is made up."""
    return made_up_word(rng) if rng.random() < 0.2 else rng.choice(ALL_WORDS)


def with_article(noun: str) -> str:
    """The noun with 'a' or 'an' before it."""
    return f"{'an' if noun[0] in VOWELS else 'a'} {noun}"
