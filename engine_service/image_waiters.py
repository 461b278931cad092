"""Sequences that wait for images which the engine does not have."""

from engine_service.sequence import Sequence


class ImageWaiters:
    """Who waits for which image, and what their sessions are to be asked for."""

    def __init__(self) -> None:
        """Nobody waits."""
        self._waiters: dict[bytes, dict[Sequence, None]] = {}
        self._sequences: set[Sequence] = set()
        self._needed: dict[int, dict[bytes, None]] = {}

    @property
    def num_sequences(self) -> int:
        """How many wait."""
        return len(self._sequences)

    def add(self, sequence: Sequence, missing: list[bytes]) -> None:
        """A sequence waits for images; its session is asked for those that it did not wait for before."""
        self._sequences.add(sequence)
        for sha256 in missing:
            waiters = self._waiters.setdefault(sha256, {})
            if sequence not in waiters:
                waiters[sequence] = None
                self._needed.setdefault(sequence.key[0], {})[sha256] = None

    def arrived(self, sha256: bytes) -> list[Sequence]:
        """An image is there; returns those who waited for it, and perhaps for others still."""
        return list(self._waiters.pop(sha256, ()))

    def remove(self, sequence: Sequence) -> None:
        """A sequence does not wait any more."""
        self._sequences.discard(sequence)
        for image in sequence.spec.images:
            waiters = self._waiters.get(image.sha256, {})
            waiters.pop(sequence, None)
            if not waiters:
                self._waiters.pop(image.sha256, None)

    def take_needed(self) -> dict[int, list[bytes]]:
        """The images to ask each session for since the last call, by session."""
        needed, self._needed = self._needed, {}
        return {session: list(images) for session, images in needed.items()}
