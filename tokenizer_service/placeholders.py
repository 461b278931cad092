"""Placeholder tokens of images among a prompt's token ids."""

from collections.abc import Sequence


def expand(ids: Sequence[int], token_id: int, num_tokens: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Turns each placeholder into those of a whole image.

    Args:
        ids: Token ids with one placeholder for each image.
        token_id: The placeholder.
        num_tokens: Placeholders of one image.

    Returns:
        The longer ids, and where each image starts among them.
    """
    if token_id not in ids:
        return tuple(ids), ()
    longer: list[int] = []
    starts = []
    for token in ids:
        if token == token_id:
            starts.append(len(longer))
            longer += [token_id] * num_tokens
        else:
            longer.append(token)
    return tuple(longer), tuple(starts)


def find(ids: Sequence[int], token_id: int, num_tokens: int) -> tuple[int, ...] | None:
    """Where images start among ids that have all their placeholders; None if a run is not whole images."""
    if token_id not in ids:
        return ()
    starts = []
    place = 0
    while place < len(ids):
        if ids[place] != token_id:
            place += 1
            continue
        if tuple(ids[place : place + num_tokens]) != (token_id,) * num_tokens:
            return None
        starts.append(place)
        place += num_tokens
    return tuple(starts)
