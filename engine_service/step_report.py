"""What there is to tell the sessions, gathered between two steps."""

from engine_service.plan import Started, StepColumns
from engine_service.sequence import FinishReason, Sequence, SequenceKey


class StepReport:
    """Columns by session, and who left the queue."""

    def __init__(self) -> None:
        """There is nothing to tell."""
        self._columns: dict[int, StepColumns] = {}
        self._begun: list[SequenceKey] = []

    def columns_of(self, session: int, step: int) -> StepColumns:
        """Where the step's tokens of a session go."""
        return self._columns.get(session) or self._columns.setdefault(session, StepColumns(step))

    def add_begun(self, step: int, sequence: Sequence, *, is_first: bool) -> None:
        """A sequence was given a place; `is_first` says that it never had one."""
        session, number = sequence.key
        self._begun.append(sequence.key)
        if is_first:
            self.columns_of(session, step).begun.append((number, sequence.num_cached))

    def add_started(self, step: int, sequence: Sequence, now_s: float) -> None:
        """A sequence's prompt is computed."""
        assert sequence.first_step_s is not None
        session, number = sequence.key
        columns = self.columns_of(session, step)
        queue_us = round((sequence.first_step_s - sequence.arrival_s) * 1e6)
        prefill_us = round((now_s - sequence.first_step_s) * 1e6)
        columns.started.append(Started(number, sequence.num_cached, queue_us, prefill_us))
        if sequence.prompt_logprobs is not None:
            columns.prompt_logprobs[number] = sequence.prompt_logprobs

    def add_finished(self, step: int, sequence: Sequence, reason: FinishReason) -> None:
        """A sequence ended; nothing more comes for it."""
        session, number = sequence.key
        self.columns_of(session, step).finished.append((number, reason))

    def take_columns(self) -> dict[int, StepColumns]:
        """What happened since the last call, by session."""
        columns, self._columns = self._columns, {}
        return columns

    def take_begun(self) -> list[SequenceKey]:
        """The sequences that were given a place since the last call."""
        begun, self._begun = self._begun, []
        return begun
