"""The blocks of sequences: given, shared between equal beginnings, given back."""

from engine_service.block_pool import ROOT_DIGEST, BlockPool, block_digest
from engine_service.image_ref import content_of
from engine_service.sequence import Sequence


class SequenceBlocks:
    """Keeps each sequence's block table; which sequence comes first is the scheduler's to say."""

    def __init__(self, pool: BlockPool, block_size: int, *, prefix_caching: bool) -> None:
        """Gives blocks of `block_size` slots out of `pool`."""
        self.block_size = block_size
        self._pool = pool
        self._prefix_caching = prefix_caching

    def find_prefix(self, sequence: Sequence) -> list[int]:
        """Known blocks that hold the beginning of the tokens; the last token is always computed."""
        if not self._prefix_caching or sequence.wants_prompt_logprobs:
            return []
        count = (len(sequence.tokens) - 1) // self.block_size
        return self._pool.find(self._digests(sequence, count)[:count])

    def can_give(self, sequence: Sequence, shared: list[int], num_reserved: int) -> bool:
        """Whether there are blocks for all known tokens behind `shared`, and `num_reserved` more."""
        count = self._num_blocks(sequence) - len(shared)
        return count + num_reserved <= self._pool.num_free - self._pool.num_free_among(shared)

    def give(self, sequence: Sequence, shared: list[int]) -> None:
        """Gives a sequence blocks for all its known tokens, those of `shared` first."""
        self._pool.hold(shared)
        sequence.blocks = shared + self._pool.take(self._num_blocks(sequence) - len(shared))
        sequence.num_computed, sequence.num_registered = len(shared) * self.block_size, len(shared)

    def grow(self, sequence: Sequence) -> None:
        """Gives a sequence one block more; one must be free."""
        sequence.blocks += self._pool.take(1)

    def release(self, sequence: Sequence) -> None:
        """Takes all blocks back; what they hold may be shared until they are needed."""
        self._pool.release(sequence.blocks)
        sequence.blocks = []

    def forget(self, sequence: Sequence) -> None:
        """What the blocks hold is not to be shared: it may be wrong."""
        self._pool.forget(sequence.blocks)

    def register_full(self, sequence: Sequence) -> None:
        """Makes blocks known whose tokens are all known and computed, once launched steps are done."""
        if not self._prefix_caching:
            return
        count = min(sequence.num_computed, len(sequence.tokens)) // self.block_size
        digests = self._digests(sequence, count)
        for index in range(sequence.num_registered, count):
            self._pool.register(sequence.blocks[index], digests[index])
        sequence.num_registered = count

    def _num_blocks(self, sequence: Sequence) -> int:
        return -(-len(sequence.tokens) // self.block_size)

    def _digests(self, sequence: Sequence, count: int) -> list[bytes]:
        """The addresses of at least the first `count` blocks, whose tokens must be known."""
        size, digests = self.block_size, sequence.digests
        while len(digests) < count:
            start = len(digests) * size
            parent = digests[-1] if digests else ROOT_DIGEST
            pictures = content_of(sequence.spec.images, start, start + size)
            digests.append(block_digest(parent, sequence.tokens[start : start + size], pictures))
        return digests
