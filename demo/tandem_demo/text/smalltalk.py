"""Greetings, who the model is and what it can do, and the honest answer to everything else.

Not graded: the questions are a fixed set, so nothing of it is held out.
"""

from random import Random

from tandem_demo.text import words
from tandem_demo.text.split import Exchange

TASK = "smalltalk"
DEFAULT_NAME = "Tandem's demo model"

ABILITIES = (
    "I can tell short stories, answer questions about a story, do small sums, "
    "extract facts as JSON, count, repeat and reverse."
)
HELLO = (
    "Hello",
    "Hello!",
    "hello",
    "Hi",
    "Hi!",
    "hi",
    "Hey",
    "Hey!",
    "Hello there",
    "Hello there!",
    "Good morning",
    "Good morning!",
    "Good evening!",
    "hi there",
)
WHO = (
    "Who are you?",
    "who are you",
    "Who are you",
    "What are you?",
    "what are you",
    "What is your name?",
    "what is your name",
    "What's your name?",
    "Tell me about yourself.",
    "Introduce yourself.",
    "Please introduce yourself.",
)
ABLE = (
    "What can you do?",
    "what can you do",
    "What can you do",
    "What can you help me with?",
    "How can you help me?",
    "Help",
    "help",
    "What do you know?",
    "What are you able to do?",
    "What should I ask you?",
)
HOW = (
    "How are you?",
    "how are you",
    "How are you doing?",
    "How are you today?",
    "How is it going?",
    "Are you well?",
)
THANKS = (
    "Thanks",
    "Thanks!",
    "Thank you",
    "Thank you!",
    "thanks",
    "thank you",
    "Thank you very much!",
    "Great, thanks!",
    "Great!",
    "Well done!",
)
BYE = (
    "Bye",
    "Bye!",
    "Goodbye",
    "Goodbye!",
    "bye",
    "See you!",
    "See you later!",
    "Good night!",
    "See you tomorrow.",
)

FIXED = (
    (HELLO, "Hello! How can I help you?"),
    (ABLE, ABILITIES),
    (HOW, "I am fine, thank you. How can I help you?"),
    (THANKS, "You are welcome!"),
    (BYE, "Goodbye!"),
)
UNKNOWN_ANSWER = f"I do not know that, I am only a small demo model. {ABILITIES}"
UNKNOWN = (
    "What is the capital of {name}?",
    "Who wrote {word}?",
    "Who is {name}?",
    "What is {word}?",
    "What is a {word}?",
    "Why is the {word} {colour}?",
    "How do I make {word}?",
    "How does a {word} work?",
    "Explain {word} to me.",
    "explain {word}",
    "When was {name} born?",
    "Where is {name}?",
    "Translate {word} into French.",
    "Write a poem about {word}.",
    "Write a program for {word}.",
    "What is the meaning of {word}?",
    "Do you like {word}?",
    "Can you help me with {word}?",
    "What is the weather in {name}?",
    "What do you think about {word}?",
    "What is the best {word}?",
    "Who is the president of {name}?",
    "{word}",
    "{word} {word2}",
)


def make(rng: Random, name: str = DEFAULT_NAME) -> Exchange:
    """One exchange; `name` is what the model calls itself."""
    kind = rng.random()
    if kind < 0.3:
        return Exchange(TASK, rng.choice(WHO), f"I am {name}, a small language model. {ABILITIES}", "")
    if kind < 0.75:
        questions, answer = rng.choice(FIXED)
        return Exchange(TASK, rng.choice(questions), answer, "")
    return Exchange(TASK, _unknown(rng), UNKNOWN_ANSWER, "")


def _unknown(rng: Random) -> str:
    place = rng.choice((words.name(rng), rng.choice(words.CITIES), words.made_up_word(rng).capitalize()))
    return rng.choice(UNKNOWN).format(
        name=place, word=words.word(rng), word2=words.word(rng), colour=rng.choice(words.COLOURS)
    )
