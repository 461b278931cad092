"""One running request: its answers, and their sequences in the engine."""

from tokenizer_service.answer import Answer
from tokenizer_service.events import Event


class Generation:
    """Gathers the events of all answers of one request.

    Nothing is computed before somebody looks, so a slow client gets fewer and larger deltas.
    """

    def __init__(self, answers: list[Answer]) -> None:
        """The sequences of `answers` are running."""
        self._answers = answers

    @property
    def is_finished(self) -> bool:
        """Whether all events are out."""
        return all(answer.is_finished for answer in self._answers)

    def drain(self) -> list[Event]:
        """The events of what has arrived since the last call.

        Raises:
            ServiceError: The request failed.
        """
        return [event for answer in self._answers if not answer.is_finished for event in answer.advance()]

    def close(self) -> None:
        """Ends what still runs in the engine."""
        for answer in self._answers:
            if not answer.is_finished:
                answer.sequence.cancel()
