"""The answers of one request, and their sequences in the engine."""

from tokenizer_service.answer import Answer
from tokenizer_service.events import Event
from tokenizer_service.transcript import Place


class Generation:
    """Nothing is computed before somebody looks, so a slow client gets fewer and larger deltas."""

    def __init__(self, answers: list[Answer]) -> None:
        """The sequences of `answers` are running."""
        self._answers = answers

    @property
    def num_made(self) -> int:
        """Tokens that the engine has made, those of the prompt counted once."""
        return sum(answer.num_made for answer in self._answers)

    @property
    def is_finished(self) -> bool:
        """Whether all answers are whole."""
        return all(answer.is_finished for answer in self._answers)

    def advance(self) -> None:
        """Takes in what has arrived.

        Raises:
            ServiceError: The request failed.
        """
        for answer in self._answers:
            if not answer.is_finished:
                answer.advance()

    def places(self, after_tokens: int) -> list[Place]:
        """Where a reader begins that has the first tokens of each answer."""
        return [Place(after_tokens) for _ in self._answers]

    def read(self, places: list[Place]) -> list[Event]:
        """What is new for a reader with these places."""
        pairs = zip(self._answers, places, strict=True)
        return [event for answer, place in pairs for event in answer.transcript.read(place)]

    def close(self) -> None:
        """Ends what still runs in the engine."""
        for answer in self._answers:
            if not answer.is_finished:
                answer.sequence.cancel()
