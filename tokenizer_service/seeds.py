"""Seeds for several answers to one prompt."""

import random

_MASK = 2**64 - 1


def request_seed(seed: int | None) -> int:
    """The seed of a request, a new one if the client gave none.

    It is drawn here and not in the engine, so that an engine which comes back draws the same tokens.
    """
    return random.getrandbits(64) if seed is None else seed


def answer_seed(seed: int, index: int) -> int:
    """The seed of answer `index`: the request's own for the first, hashes of it for the others.

    The hash is SplitMix64's (Steele, Lea and Flood, 2014): its `index`-th output from state `seed`.
    """
    if index == 0:
        return seed
    value = (seed + index * 0x9E3779B97F4A7C15) & _MASK
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)
