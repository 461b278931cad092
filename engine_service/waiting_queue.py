"""The sequences that wait for a place, in order, and how much they are."""

import heapq

from engine_service.image_store import ImageStore
from engine_service.image_waiters import ImageWaiters
from engine_service.sequence import Sequence, State


class WaitingQueue:
    """First come first served within priority; those that lack images wait beside the order.

    Attributes:
        num_sequences: All that wait, those that lack images included.
        num_tokens: The prompt tokens of these.
    """

    def __init__(self, images: ImageStore) -> None:
        """Nobody waits; `images` says what is missing."""
        self.num_sequences = 0
        self.num_tokens = 0
        self._images = images
        self._waiters = ImageWaiters()
        # Entries of sequences that left meanwhile stay until they come up, or are too many.
        self._heap: list[tuple[tuple[int, int], Sequence]] = []

    @property
    def num_lacking(self) -> int:
        """How many cannot begin before an image comes."""
        return self._waiters.num_sequences

    def add(self, sequence: Sequence) -> None:
        """A sequence waits from now on; its state says for what."""
        self.num_sequences += 1
        self.num_tokens += sequence.num_prompt
        self._place(sequence)

    def remove(self, sequence: Sequence) -> None:
        """A sequence that waits leaves; its next state is the caller's to set."""
        self._count_out(sequence)
        if sequence.state is State.LACKING:
            self._waiters.remove(sequence)
        elif len(self._heap) > 2 * (self.num_sequences - self.num_lacking) + 16:
            self._heap = [entry for entry in self._heap if entry[1].state is State.WAITING]
            heapq.heapify(self._heap)

    def first(self) -> Sequence | None:
        """The first in order that can begin; it stays where it is."""
        while self._heap:
            sequence = self._heap[0][1]
            if sequence.state is State.WAITING and not self._missing(sequence):
                return sequence
            heapq.heappop(self._heap)
            if sequence.state is State.WAITING:  # its features gave way while it waited
                self._place(sequence)
        return None

    def take_first(self) -> None:
        """Takes out what `first` gave."""
        self._count_out(heapq.heappop(self._heap)[1])

    def image_arrived(self, sha256: bytes) -> None:
        """Sequences that waited for this image and no other can begin."""
        for sequence in self._waiters.arrived(sha256):
            if missing := self._missing(sequence):
                self._waiters.add(sequence, missing)
            else:
                self._waiters.remove(sequence)
                self._place(sequence)

    def take_needed_images(self) -> dict[int, list[bytes]]:
        """The images that each session is to be asked for since the last call, by session."""
        return self._waiters.take_needed()

    def _place(self, sequence: Sequence) -> None:
        if missing := self._missing(sequence):
            sequence.state = State.LACKING
            self._waiters.add(sequence, missing)
        else:
            sequence.state = State.WAITING
            heapq.heappush(self._heap, (sequence.order, sequence))

    def _missing(self, sequence: Sequence) -> list[bytes]:
        return [each.sha256 for each in sequence.spec.images if not self._images.has(each.sha256)]

    def _count_out(self, sequence: Sequence) -> None:
        self.num_sequences -= 1
        self.num_tokens -= sequence.num_prompt
