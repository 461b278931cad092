"""Seeds for several answers to one prompt."""

_MASK = 2**64 - 1


def answer_seed(seed: int | None, index: int) -> int | None:
    """The seed of answer `index`: the request's own for the first, hashes of it for the others.

    The hash is SplitMix64's (Steele, Lea and Flood, 2014): its `index`-th output from state `seed`.
    """
    if seed is None or index == 0:
        return seed
    value = (seed + index * 0x9E3779B97F4A7C15) & _MASK
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB & _MASK
    return value ^ (value >> 31)
