"""The sequences that hold a place: a row of the device's state table, and blocks."""

from bisect import insort

from engine_service.sequence import Sequence, State


class Places:
    """Those that compute their prompts, and those that decode, each in order.

    Attributes:
        prefilling: In order of priority, then arrival.
        decoding: The same.
    """

    def __init__(self, num_places: int) -> None:
        """All places are free."""
        self.prefilling: list[Sequence] = []
        self.decoding: list[Sequence] = []
        self._free_rows = list(range(num_places - 1, -1, -1))

    @property
    def has_free(self) -> bool:
        """Whether one more can enter."""
        return bool(self._free_rows)

    def enter(self, sequence: Sequence) -> None:
        """Gives a sequence a row; its prompt is computed next."""
        sequence.row = self._free_rows.pop()
        sequence.state = State.PREFILLING
        insort(self.prefilling, sequence, key=lambda each: each.order)

    def decode(self, sequence: Sequence) -> None:
        """A sequence's prompt is computed."""
        sequence.state = State.DECODING
        self.prefilling.remove(sequence)
        insort(self.decoding, sequence, key=lambda each: each.order)

    def leave(self, sequence: Sequence) -> None:
        """Takes a sequence's row back; its next state is the caller's to set."""
        (self.prefilling if sequence.state is State.PREFILLING else self.decoding).remove(sequence)
        self._free_rows.append(sequence.row)
        sequence.row = -1

    def last(self) -> Sequence:
        """The last in order of those that are here; somebody is."""
        return max(self.prefilling[-1:] + self.decoding[-1:], key=lambda each: each.order)

    def check(self) -> None:
        """Asserts that no two have the same row, and nobody a free one."""
        rows = [sequence.row for sequence in self.prefilling + self.decoding]
        assert len({*rows, *self._free_rows}) == len(rows) + len(self._free_rows)
