"""The border between training and held-out text.

Every exchange carries a key made from its content (operands, phrase, sentence, cast of a story). A hash of
the key decides the side, so the same content is on the same side whatever the phrasing or the seed, and
a held-out prompt never occurs in training.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

HELD_OUT_ONE_IN = 20


@dataclass(frozen=True)
class Exchange:
    """One question to the model and the answer it should give."""

    task: str
    question: str
    answer: str
    key: str
    """What the split hashes; empty for content that is always training text."""


def is_held_out(key: str) -> bool:
    """Whether content with this key is kept out of training (one key in `HELD_OUT_ONE_IN`)."""
    if not key:
        return False
    digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") % HELD_OUT_ONE_IN == 0


def draw(make: Callable[[Random], Exchange], rng: Random, held_out: bool) -> Exchange:
    """The first exchange of `make` that lies on the wanted side of the split."""
    while True:
        exchange = make(rng)
        if is_held_out(exchange.key) == held_out:
            return exchange
