"""The server's books of the sequences that the core has: who waits, for whom, and how much it is."""

from collections import Counter
from dataclasses import dataclass

from engine_service.sequence import SequenceKey


@dataclass(slots=True)
class Amount:
    """Sequences, and the tokens of their prompts."""

    num_sequences: int = 0
    num_tokens: int = 0


@dataclass(slots=True)
class Entry:
    """One sequence.

    Attributes:
        client: On whose behalf it runs.
        priority: Higher goes first.
        num_tokens: Tokens of its prompt.
        num_work_tokens: Those that the core surely computes before it turns to the next.
        is_waiting: Whether the core has not begun it.
    """

    client: str
    priority: int
    num_tokens: int
    num_work_tokens: int
    is_waiting: bool = True


class Ledger:
    """Exact by what the server sent and the core reported; no guess of what is under way between them.

    Attributes:
        waiting: What the core has not begun.
    """

    def __init__(self) -> None:
        """The core has nothing."""
        self.waiting = Amount()
        self._entries: dict[SequenceKey, Entry] = {}
        self._waiting_of: dict[str, Amount] = {}
        self._work_by_priority: Counter[int] = Counter()

    @property
    def num_sequences(self) -> int:
        """Sequences that wait or run."""
        return len(self._entries)

    def waiting_of(self, client: str) -> Amount:
        """What the core has not begun of one client's."""
        return self._waiting_of.get(client, Amount())

    def work_ahead(self, priority: int) -> int:
        """Prompt tokens that the core computes before a new sequence of this priority."""
        return sum(count for each, count in self._work_by_priority.items() if each >= priority)

    def add(self, key: SequenceKey, entry: Entry) -> None:
        """A sequence goes to the core, under an unused key."""
        assert key not in self._entries
        self._entries[key] = entry
        self._count(entry, 1)

    def begin(self, key: SequenceKey) -> None:
        """The core has begun a sequence, for the first time or after a preemption; unknown keys ended."""
        entry = self._entries.get(key)
        if entry is not None and entry.is_waiting:
            self._count(entry, -1)
            entry.is_waiting = False

    def end(self, key: SequenceKey) -> None:
        """The core has a sequence no more; unknown keys ended before."""
        entry = self._entries.pop(key, None)
        if entry is not None and entry.is_waiting:
            self._count(entry, -1)

    def check(self) -> None:
        """Asserts that the sums are those of the entries."""
        waiting = [each for each in self._entries.values() if each.is_waiting]
        assert self.waiting == Amount(len(waiting), sum(each.num_tokens for each in waiting))
        assert set(self._waiting_of) == {each.client for each in waiting}
        for client, amount in self._waiting_of.items():
            mine = [each for each in waiting if each.client == client]
            assert amount == Amount(len(mine), sum(each.num_tokens for each in mine))
        work: Counter[int] = Counter()
        for each in waiting:
            work[each.priority] += each.num_work_tokens
        assert self._work_by_priority == work

    def _count(self, entry: Entry, sign: int) -> None:
        mine = self._waiting_of.setdefault(entry.client, Amount())
        for amount in (self.waiting, mine):
            amount.num_sequences += sign
            amount.num_tokens += sign * entry.num_tokens
        if not mine.num_sequences:
            del self._waiting_of[entry.client]
        self._work_by_priority[entry.priority] += sign * entry.num_work_tokens
        if not self._work_by_priority[entry.priority]:
            del self._work_by_priority[entry.priority]
