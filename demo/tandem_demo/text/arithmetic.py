"""Two-digit sums, differences and small products, bare and as short word problems.

The answer states the sum in one fixed form, "23 + 48 = 71." A product of a two-digit number shows its partial
products: "6 * 47 = 240 + 42 = 282."

Held out are operand pairs: a pair (in either order, for + and *) is on one side of the split in every
phrasing. Always training text, and so never graded, are the table of one-digit products, as there is no other
way to know it, and sums with a three-digit number, which are extra practice in carrying. No training answer
shows a held-out sum as its partial sum.
"""

from random import Random

from tandem_demo.text.split import Exchange, is_held_out
from tandem_demo.text.words import SMALL_THINGS, name

TASK = "arithmetic"

BARE = (
    "What is {sum}?",
    "What is {sum}?",
    "what is {sum}",
    "{sum}",
    "{sum} = ?",
    "{sum} =",
    "Calculate {sum}.",
    "Compute {sum}.",
    "How much is {sum}?",
    "Please calculate {sum}.",
    "Can you tell me what {sum} is?",
)
SPOKEN = {"+": "plus", "-": "minus", "*": "times"}
NUMBER_ONLY = (
    "{sum}? Answer with the number only.",
    "Only the number, please: {sum}",
    "Just the number: {sum}",
)


def sum_key(a: int, sign: str, b: int) -> str:
    """The split's key of an operand pair, the same for both orders of + and *; empty beyond two digits."""
    if max(a, b) > 99:
        return ""
    low, high = (a, b) if sign == "-" else (min(a, b), max(a, b))
    return f"arithmetic {low} {sign} {high}"


def number(rng: Random) -> int:
    """An operand of two digits or, now and then, of one or three (more digits teach the carry)."""
    size = rng.random()
    if size < 0.75:
        return rng.randint(10, 99)
    return rng.randint(0, 9) if size < 0.85 else rng.randint(100, 999)


def make_bare(rng: Random) -> Exchange:
    """A sum or difference without a story."""
    a, b, sign = number(rng), number(rng), rng.choice("+-")
    if sign == "-" and a < b and rng.random() < 0.8:
        a, b = b, a
    result = a + b if sign == "+" else a - b
    return _ask(rng, a, sign, b, f"{a} {sign} {b} = {result}.", str(result), sum_key(a, sign, b))


def make_product(rng: Random) -> Exchange:
    """A one-digit number times a number of one or two digits."""
    if rng.random() < 0.4:
        a, b = rng.randint(0, 10), rng.randint(0, 10)
        return _ask(rng, a, "*", b, f"{a} * {b} = {a * b}.", str(a * b), "")
    while True:
        a, b = rng.randint(2, 9), rng.randint(11, 99)
        tens, ones = a * (b // 10) * 10, a * (b % 10)
        if not is_held_out(sum_key(tens, "+", ones)):
            break
    answer = f"{a} * {b} = {tens} + {ones} = {a * b}."
    if rng.random() < 0.5:
        return _ask(rng, a, "*", b, answer, "", sum_key(a, "*", b))
    return _ask(rng, b, "*", a, answer, "", sum_key(a, "*", b))


def make_word_problem(rng: Random) -> Exchange:
    """Somebody gets or loses things."""
    who, thing = name(rng), rng.choice(SMALL_THINGS) + "s"
    a, b = rng.randint(2, 99), rng.randint(2, 99)
    if rng.random() < 0.5:
        more = rng.choice((f"gets {b} more", f"finds {b} more", f"buys {b} more"))
        sign, result, event = "+", a + b, more
    else:
        a, b = max(a, b), min(a, b)
        sign, result, event = "-", a - b, rng.choice((f"loses {b}", f"gives away {b}", f"sells {b}"))
    question = f"{who} has {a} {thing} and {event}. How many {thing} does {who} have now?"
    answer = f"{a} {sign} {b} = {result}. {who} has {result} {thing}."
    return Exchange(TASK, question, answer, sum_key(a, sign, b))


def make(rng: Random) -> Exchange:
    """One arithmetic exchange: mostly bare sums, some products and word problems."""
    kind = rng.random()
    if kind < 0.65:
        return make_bare(rng)
    return make_product(rng) if kind < 0.85 else make_word_problem(rng)


def _ask(rng: Random, a: int, sign: str, b: int, answer: str, bare: str, key: str) -> Exchange:
    """Phrase the question; `bare` is the answer to a question for the number only, empty if not offered."""
    if bare and rng.random() < 0.1:
        return Exchange(TASK, rng.choice(NUMBER_ONLY).format(sum=f"{a} {sign} {b}"), bare, key)
    shown = sign
    if rng.random() < 0.2:
        shown = SPOKEN[sign]
    elif sign == "*" and rng.random() < 0.4:
        shown = rng.choice("x×")
    tight = shown in "+-*" and rng.random() < 0.15
    sum_text = f"{a}{shown}{b}" if tight else f"{a} {shown} {b}"
    return Exchange(TASK, rng.choice(BARE).format(sum=sum_text), answer, key)
