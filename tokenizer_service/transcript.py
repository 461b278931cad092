"""What an answer has said so far, token by token, for readers that are anywhere in it."""

from collections.abc import Sequence

from tokenizer_service.engine_sequence import LogprobRow
from tokenizer_service.events import Candidate, Delta, Event, Finished, Started, TokenLogprob
from tokenizer_service.request import Output
from tokenizer_service.token_table import TokenTable

# With 20 candidates for each token a delta has 400 kB then, and 3 MB were they all of 128 bytes, the longest
# in common vocabularies: less than the 4 MiB that a gRPC client takes where it asks for no more. Only
# replays, and readers that are seconds behind, come to more than one such delta.
MAX_TOKENS_OF_A_DELTA = 1024


class Place:
    """How far one reader is in one answer.

    Attributes:
        num_tokens: The tokens that it has, those included that it had when it came.
        has_started: Whether it has the answer's first event.
        has_finished: Whether it has the last one.
    """

    __slots__ = ("has_finished", "has_started", "num_tokens")

    def __init__(self, num_tokens: int) -> None:
        self.num_tokens = num_tokens
        self.has_started = False
        self.has_finished = False


class Transcript:
    """Grows by tokens with the text that each completes, so it may be read on from any of them.

    Attributes:
        started: The first event, once it is known.
        finished: The last event, once it is known.
        num_tokens: Tokens so far.
    """

    def __init__(self, index: int, table: TokenTable, output: Output, *, is_kept: bool) -> None:
        """`index` is the answer's; unless the transcript is kept, only one reader sees it, from the start."""
        self.started: Started | None = None
        self.finished: Finished | None = None
        self.num_tokens = 0
        self._index = index
        self._table = table
        self._has_ids = output.token_ids
        self._is_kept = is_kept
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self._rows: list[LogprobRow] = []

    def add(self, texts: Sequence[str], tokens: Sequence[int], rows: Sequence[LogprobRow]) -> None:
        """The next tokens, as many as texts; rows where log-probabilities were asked for."""
        self._texts += texts
        self._tokens += tokens
        self._rows += rows
        self.num_tokens += len(texts)

    def read(self, place: Place) -> list[Event]:
        """What is new for a reader, who is at the end then."""
        events: list[Event] = []
        if self.started is not None and not place.has_started:
            place.has_started = True
            events.append(self.started)
        if self.num_tokens > place.num_tokens:
            events += self._deltas(place.num_tokens)
            place.num_tokens = self.num_tokens
        if self.finished is not None and not place.has_finished:
            place.has_finished = True
            events.append(self.finished)
        return events

    def _deltas(self, num_before: int) -> list[Delta]:
        """Everything behind the first tokens."""
        end = len(self._texts)
        first = end - (self.num_tokens - num_before)
        size = MAX_TOKENS_OF_A_DELTA
        deltas = [self._delta(start, start + size) for start in range(first, end, size)]
        if not self._is_kept:
            self.started = None
            self._texts, self._tokens, self._rows = [], [], []
        return deltas

    def _delta(self, start: int, end: int) -> Delta:
        """The tokens at these places in the lists, as far as there are any."""
        tokens = self._tokens[start:end]
        return Delta(
            index=self._index,
            text="".join(self._texts[start:end]),
            token_ids=tuple(tokens) if self._has_ids else (),
            logprobs=token_logprobs(self._table, tokens, self._rows[start:end]) if self._rows else (),
            num_tokens=len(tokens),
        )


def token_logprobs(
    table: TokenTable, tokens: Sequence[int], rows: Sequence[LogprobRow]
) -> tuple[TokenLogprob, ...]:
    """One entry for each token that has a row."""
    piece = table.piece
    return tuple(
        TokenLogprob(
            token,
            piece(token),
            row.logprob,
            tuple(Candidate(each, piece(each), logprob) for each, logprob in row.candidates),
        )
        for token, row in zip(tokens, rows, strict=False)
    )
