"""Questions about a given story, and requests for a new one."""

from random import Random

from tandem_demo.text import words
from tandem_demo.text.split import Exchange, is_held_out
from tandem_demo.text.stories import make_cast, tell
from tandem_demo.text.words import with_article

QUESTION_TASK = "story_questions"
CREATIVE_TASK = "new_story"

FRAMES = (
    "{story}\n\n{question}",
    "{story} {question}",
    "Read this story: {story}\n{question}",
    "Story: {story}\nQuestion: {question}",
    "{question}\n\n{story}",
    "Here is a story. {story} Now tell me: {question}",
    "Answer the question about the story.\n{story}\n{question}",
)
REQUESTS = (
    "Tell me a story about {who}.",
    "Tell me a story about {who}",
    "tell me a story about {who}",
    "Please tell me a story about {who}.",
    "Write a short story about {who}.",
    "Can you tell a story about {who}?",
    "I want to hear a story about {who}.",
)
CLOSINGS = (
    "They promised to meet again the next day.",
    "The stars came out, and everyone slept well.",
    "And so they became the best of friends.",
    "It was a day that nobody ever forgot.",
    "And that is the end of the story.",
)


def make_questions(rng: Random) -> list[Exchange]:
    """One to four questions about one story; the story itself stands in the first of them only."""
    story = tell(rng, make_cast(rng), rng.randint(2, 6))
    facts = rng.sample(story.facts, min(len(story.facts), rng.choice((1, 1, 1, 2, 3, 4))))
    asked = [(rng.choice(fact.questions), fact.answer) for fact in facts]
    first = rng.choice(FRAMES).format(story=story.text, question=asked[0][0])
    prompts = [first, *(question for question, _ in asked[1:])]
    answers = [answer for _, answer in asked]
    return [
        Exchange(QUESTION_TASK, prompt, answer, story.key)
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def draw_questions(rng: Random, held_out: bool) -> list[Exchange]:
    """Questions about a story from the wanted side of the split."""
    while True:
        exchanges = make_questions(rng)
        if is_held_out(exchanges[0].key) == held_out:
            return exchanges


def make_new_story(rng: Random) -> Exchange:
    """A request for a story about an animal, which the story opens with."""
    kind = words.made_up_word(rng) if rng.random() < 0.1 else rng.choice(words.ANIMALS)
    who = with_article(kind)
    # Heroes and friends have names of their own, so that the likeliest name never makes two into one.
    hero = rng.choice(words.NAMES[::2])
    if rng.random() < 0.25:
        hero = words.made_up_word(rng).capitalize() if rng.random() < 0.4 else hero
        who = f"{who} named {hero}"
    cast = make_cast(rng, kind, hero, rng.choice(words.NAMES[1::2]))
    question = rng.choice(REQUESTS).format(who=who)
    if rng.random() < 0.1:
        question = rng.choice(("Tell me a story.", "Tell me a story", "Write a story."))
    story = tell(rng, cast, num_events=8, once=True)
    return Exchange(CREATIVE_TASK, question, f"{story.text} {rng.choice(CLOSINGS)}", story.key)
