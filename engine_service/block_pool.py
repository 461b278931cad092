"""Who holds which block of the KV cache, and which blocks hold known tokens. No tensors."""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

ROOT_DIGEST = b""


def block_digest(parent: bytes, tokens: Sequence[int], images: bytes = b"") -> bytes:
    """The content address of a full block: a hash of all tokens up to and including it.

    Args:
        parent: The digest of the block before, ROOT_DIGEST for the first.
        tokens: The block's token ids.
        images: What `image_ref.content_of` says of it.
    """
    return blake2b(array("I", tokens).tobytes() + images, key=parent, digest_size=16).digest()


class BlockPool:
    """Blocks 0 … num_blocks - 1, each free or held by one or more sequences.

    A freed block keeps its content, and its address, until it is needed for something else: the block
    that has been free for longest is taken first.
    """

    def __init__(self, num_blocks: int) -> None:
        """All blocks are free and unknown."""
        self.num_blocks = num_blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self._num_holders = [0] * num_blocks
        self._digests: list[bytes | None] = [None] * num_blocks
        self._by_digest: dict[bytes, int] = {}

    @property
    def num_free(self) -> int:
        """Blocks that `take` can give."""
        return len(self._free)

    def take(self, count: int) -> list[int]:
        """Gives `count` blocks to a new holder; at most `num_free`. Their old content is forgotten."""
        assert count <= len(self._free)
        taken = []
        for _ in range(count):
            block, _ = self._free.popitem(last=False)
            self._forget(block)
            self._num_holders[block] = 1
            taken.append(block)
        return taken

    def find(self, digests: Iterable[bytes]) -> list[int]:
        """The blocks with these contents, up to the first that is unknown. They are not held yet."""
        found = []
        for digest in digests:
            block = self._by_digest.get(digest)
            if block is None:
                break
            found.append(block)
        return found

    def hold(self, blocks: Iterable[int]) -> None:
        """Adds a holder to blocks that `find` returned."""
        for block in blocks:
            if self._num_holders[block] == 0:
                del self._free[block]
            self._num_holders[block] += 1

    def num_free_among(self, blocks: Iterable[int]) -> int:
        """How many of `blocks` nobody holds."""
        return sum(self._num_holders[block] == 0 for block in blocks)

    def release(self, blocks: Sequence[int]) -> None:
        """Takes a holder away; later blocks of a sequence are reused before earlier ones."""
        for block in reversed(blocks):
            assert self._num_holders[block] > 0
            self._num_holders[block] -= 1
            if self._num_holders[block] == 0:
                self._free[block] = None
                if self._digests[block] is None:
                    self._free.move_to_end(block, last=False)

    def register(self, block: int, digest: bytes) -> None:
        """Makes a full, held block known by its content, unless another block has that content."""
        assert self._num_holders[block] > 0
        assert self._digests[block] is None
        if digest not in self._by_digest:
            self._by_digest[digest] = block
            self._digests[block] = digest

    def forget(self, blocks: Iterable[int]) -> None:
        """Makes blocks unknown, because their content cannot be trusted."""
        for block in blocks:
            self._forget(block)

    def check(self, held: Iterable[Sequence[int]]) -> None:
        """Asserts that the pool agrees with the block tables of all sequences."""
        expected = [0] * self.num_blocks
        for blocks in held:
            for block in blocks:
                expected[block] += 1
        assert expected == self._num_holders, "holders differ from the block tables"
        assert set(self._free) == {b for b, n in enumerate(expected) if n == 0}, "free list is wrong"
        assert all(self._digests[b] == d for d, b in self._by_digest.items()), "address table is wrong"

    def _forget(self, block: int) -> None:
        digest = self._digests[block]
        if digest is not None:
            del self._by_digest[digest]
            self._digests[block] = None
