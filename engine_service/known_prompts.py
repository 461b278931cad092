"""Beginnings of prompts that the core had lately, and so need not compute again."""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

_CHUNK_TOKENS = 256


class KnownPrompts:
    """The server's guess at the prefix cache: the last beginnings that the cache has room for.

    Prompts that share a beginning count once however many wait, as they do in the core.
    """

    def __init__(self, num_tokens: int) -> None:
        """Nothing is known yet; `num_tokens` are what the cache holds, 0 without one."""
        self._max_chunks = num_tokens // _CHUNK_TOKENS
        self._chunks: OrderedDict[int, None] = OrderedDict()

    def num_unknown(self, token_ids: tuple[int, ...]) -> int:
        """How many tokens lie behind the longest known beginning."""
        num_known = 0
        for chunk in _chunks(token_ids) if self._chunks else ():
            if chunk not in self._chunks:
                break
            num_known += _CHUNK_TOKENS
        return len(token_ids) - num_known

    def add(self, token_ids: tuple[int, ...]) -> None:
        """The core gets this prompt; what was not used for longest is forgotten for it."""
        if not self._max_chunks:
            return
        for chunk in _chunks(token_ids):
            self._chunks[chunk] = None
            self._chunks.move_to_end(chunk)
        while len(self._chunks) > self._max_chunks:
            self._chunks.popitem(last=False)


def _chunks(token_ids: Sequence[int]) -> Iterator[int]:
    """A hash of the tokens up to the end of each whole chunk."""
    digest = 0
    for end in range(_CHUNK_TOKENS, len(token_ids) + 1, _CHUNK_TOKENS):
        digest = hash((digest, token_ids[end - _CHUNK_TOKENS : end]))
        yield digest
