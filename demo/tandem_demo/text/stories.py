"""Short stories made of events; every event brings the questions that it answers.

Held out are combinations of hero and place: no training story has a held-out hero and place together.
"""

from dataclasses import dataclass
from random import Random

from tandem_demo.text import words
from tandem_demo.text.words import with_article


@dataclass(frozen=True)
class Fact:
    """A question that the story answers, in every phrasing, and its one answer."""

    questions: tuple[str, ...]
    answer: str


@dataclass(frozen=True)
class Cast:
    """Who and what a story is about; all things differ, so that every question has one answer."""

    hero: str
    hero_kind: str
    friend: str
    friend_kind: str
    place: str
    belongings: tuple[str, ...]
    colours: tuple[str, ...]
    things: tuple[str, ...]
    counts: tuple[str, ...]


@dataclass(frozen=True)
class Event:
    """One sentence of a story and what can be asked about it."""

    sentence: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True)
class Story:
    """A story's text, its questions, and its key for the split."""

    text: str
    facts: tuple[Fact, ...]
    key: str


def make_cast(rng: Random, hero_kind: str = "", hero: str = "", friend: str = "") -> Cast:
    """Draw a cast; `hero_kind`, `hero` and `friend` fix what the hero is, and the names."""
    hero = hero or words.name(rng)
    friend = friend or words.name(rng)
    while friend == hero:
        friend = words.name(rng)
    kinds = rng.sample(words.ANIMALS, 2)
    hero_kind = hero_kind or kinds[0]
    return Cast(
        hero=hero,
        hero_kind=hero_kind,
        friend=friend,
        friend_kind=kinds[1] if kinds[1] != hero_kind else kinds[0],
        place=rng.choice(words.PLACES),
        belongings=tuple(rng.sample(words.BELONGINGS, 2)),
        colours=tuple(rng.sample(words.COLOURS, 2)),
        things=tuple(rng.sample(words.SMALL_THINGS, 2)),
        counts=tuple(rng.choice(words.NUMBER_WORDS[2:10]) for _ in range(2)),
    )


def opening(rng: Random, cast: Cast, once: bool) -> Event:
    """The first sentence: who goes where. `once`: it begins with "Once upon a time"."""
    kind, hero, place = with_article(cast.hero_kind), cast.hero, cast.place
    sentences = (
        f"Once upon a time, {kind} named {hero} went to the {place}.",
        f"One {rng.choice(('morning', 'evening', 'day'))}, {kind} named {hero} went to the {place}.",
        f"There was once {kind} called {hero}, who went to the {place}.",
        f"{hero} was {kind}. One day {hero} walked to the {place}.",
    )
    sentence = sentences[0] if once else rng.choice(sentences)
    went = f"{hero} went to the {place}."
    return Event(
        sentence,
        (
            Fact((f"Where did {hero} go?", f"Which place did {hero} go to?"), went),
            Fact((f"Who went to the {place}?", f"Who walked to the {place}?"), went),
            Fact((f"What kind of animal is {hero}?", f"What animal is {hero}?"), f"{hero} is {kind}."),
        ),
    )


def weather(rng: Random, cast: Cast) -> Event:
    """What the day was like."""
    kind = rng.choice(words.WEATHERS)
    sentence = rng.choice((f"It was a {kind} day.", f"The day was {kind}."))
    return Event(
        sentence, (Fact(("What was the weather like?", "What kind of day was it?"), f"It was {kind}."),)
    )


def meeting(rng: Random, cast: Cast) -> Event:
    """The hero meets the friend."""
    hero, friend, kind = cast.hero, cast.friend, with_article(cast.friend_kind)
    sentence = rng.choice(
        (
            f"There {hero} met {kind} named {friend}.",
            f"On the way {hero} met {friend}, who was {kind}.",
            f"Soon {hero} met {kind} called {friend}.",
        )
    )
    return Event(
        sentence,
        (
            Fact((f"Who did {hero} meet?", f"Whom did {hero} meet?"), f"{hero} met {friend}."),
            Fact((f"What kind of animal is {friend}?", f"What animal is {friend}?"), f"{friend} is {kind}."),
        ),
    )


def belonging(rng: Random, cast: Cast, index: int) -> Event:
    """The hero (index 0) or the friend (index 1) has a coloured thing."""
    who = (cast.hero, cast.friend)[index]
    thing, colour = cast.belongings[index], cast.colours[index]
    verb = rng.choice(("had", "carried", "brought", "loved"))
    article = "the" if verb == "loved" else ("an" if colour[0] in words.VOWELS else "a")
    answer = f"{who}'s {thing} is {colour}."
    return Event(
        f"{who} {verb} {article} {colour} {thing}.",
        (
            Fact((f"What colour is {who}'s {thing}?", f"What color is {who}'s {thing}?"), answer),
            Fact(
                (f"What colour is the {thing}?", f"What color is the {thing}?"), f"The {thing} is {colour}."
            ),
            Fact((f"Who {verb} the {thing}?", f"Whose {thing} is {colour}?"), f"It was {who}."),
        ),
    )


def gift(rng: Random, cast: Cast) -> Event:
    """One of the two gives the other some things."""
    pair = (cast.hero, cast.friend) if rng.random() < 0.5 else (cast.friend, cast.hero)
    giver, taker = pair
    count, thing = cast.counts[0], cast.things[0] + "s"
    answer = f"{giver} gave {taker} {count} {thing}."
    sentence = answer if rng.random() < 0.6 else f"{taker} got {count} {thing} from {giver}."
    return Event(
        sentence,
        (
            Fact((f"What did {giver} give to {taker}?", f"What did {taker} get from {giver}?"), answer),
            Fact(
                (f"How many {thing} did {giver} give to {taker}?", f"How many {thing} did {taker} get?"),
                answer,
            ),
            Fact((f"Who gave {taker} the {thing}?", f"Who gave the {thing} to {taker}?"), f"It was {giver}."),
        ),
    )


def find(rng: Random, cast: Cast) -> Event:
    """One of the two finds some things somewhere."""
    who = rng.choice((cast.hero, cast.friend))
    count, thing, spot = cast.counts[1], cast.things[1] + "s", rng.choice(words.SPOTS)
    side = rng.choice(("under", "behind", "near"))
    return Event(
        f"{who} found {count} {thing} {side} the {spot}.",
        (
            Fact((f"What did {who} find?",), f"{who} found {count} {thing}."),
            Fact((f"How many {thing} did {who} find?",), f"{who} found {count} {thing}."),
            Fact(
                (f"Where did {who} find the {thing}?", f"Where were the {thing}?"),
                f"They were {side} the {spot}.",
            ),
            Fact((f"Who found the {thing}?",), f"It was {who}."),
        ),
    )


def meal(rng: Random, cast: Cast) -> Event:
    """The two eat together."""
    food = rng.choice(words.FOODS)
    sentence = rng.choice((f"Then they ate {food} together.", f"Later they shared some {food}."))
    return Event(sentence, (Fact(("What did they eat?", "What food did they share?"), f"They ate {food}."),))


def ending(rng: Random, cast: Cast) -> Event:
    """How the hero feels at the end."""
    feeling = rng.choice(words.FEELINGS)
    sentence = rng.choice(
        (f"In the end {cast.hero} was {feeling}.", f"{cast.hero} went home and felt {feeling}.")
    )
    questions = (f"How did {cast.hero} feel?", f"How did {cast.hero} feel in the end?")
    return Event(sentence, (Fact(questions, f"{cast.hero} felt {feeling}."),))


def story_key(cast: Cast) -> str:
    """The split's key: hero and place."""
    return f"story {cast.hero} {cast.place}"


def tell(rng: Random, cast: Cast, num_events: int, once: bool = False) -> Story:
    """A story of an opening and up to `num_events` further events, in an order that makes sense."""
    middle = [
        weather(rng, cast),
        belonging(rng, cast, 0),
        meeting(rng, cast),
        belonging(rng, cast, 1),
        gift(rng, cast),
        find(rng, cast),
        meal(rng, cast),
        ending(rng, cast),
    ]
    kept = sorted(rng.sample(range(len(middle)), min(num_events, len(middle))))
    events = [opening(rng, cast, once), *(middle[index] for index in kept)]
    facts = tuple(fact for event in events for fact in event.facts)
    return Story(" ".join(event.sentence for event in events), facts, story_key(cast))
