"""One answer of a request: what the engine sends in, events out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tandem_service.errors import RETRY_DELAY_S, DeadlineError, InternalError, ServiceError, UnavailableError
from tokenizer_service.detokenizer import Detokenizer
from tokenizer_service.engine_sequence import EngineSequence, LogprobRow, Mail, SequenceStart
from tokenizer_service.events import (
    Candidate,
    Delta,
    Event,
    Finished,
    FinishReason,
    Started,
    Timings,
    TokenLogprob,
    Usage,
)
from tokenizer_service.request import Output, Stop
from tokenizer_service.stop import StopMatch, StopMatcher
from tokenizer_service.token_table import TokenTable


@dataclass(frozen=True)
class Prompt:
    """What was encoded: the text (shown only where echo asks for it) and its token ids."""

    text: str
    token_ids: tuple[int, ...]


class Answer:
    """Turns one sequence's tokens into events, at most one delta for each look into the mailbox.

    Attributes:
        sequence: The engine's side of it.
        is_finished: Whether the last event is out.
    """

    def __init__(
        self,
        index: int,
        prompt: Prompt,
        output: Output,
        stop: Stop,
        table: TokenTable,
        detokenizer: Detokenizer,
        matcher: StopMatcher | None,
        sequence: EngineSequence,
    ) -> None:
        """`matcher` is None where the request has no stop strings."""
        self.sequence = sequence
        self.is_finished = False
        self._index = index
        self._prompt = prompt
        self._output = output
        self._stop = stop
        self._table = table
        self._detokenizer = detokenizer
        self._matcher = matcher
        self._tokens: list[int] = []
        self._rows: list[LogprobRow] = []
        self._start = SequenceStart(0, 0, 0, [])
        self._num_tokens = 0

    def advance(self) -> list[Event]:
        """The events of what has arrived.

        Raises:
            ServiceError: The answer is lost.
        """
        mail = self.sequence.take()
        if mail.finish_reason is not None:
            _raise_for(mail.finish_reason)
        events: list[Event] = []
        if mail.start is not None:
            self._start = mail.start
            events.append(self._started(mail.start))
        tokens, end_token = self._split_end(mail)
        self._tokens += tokens
        self._rows += mail.logprobs[: len(tokens)]
        texts = self._detokenizer.push(tokens)
        if mail.finish_reason is not None:
            texts += self._detokenizer.finish()
        certain = self._matcher.push(texts) if self._matcher else texts
        if isinstance(certain, StopMatch):
            return events + self._end_at(certain, mail.finish_reason)
        if mail.finish_reason is not None and self._matcher:
            certain += self._matcher.finish()
        events += self._delta(certain)
        if mail.finish_reason is not None:
            events.append(self._finished(mail.finish_reason, end_token))
        return events

    def _split_end(self, mail: Mail) -> tuple[list[int], int | None]:
        """The new tokens of the answer, and the token that ended the sequence, if one did.

        That token is a part of the answer only if the request includes what stops it.
        """
        if mail.finish_reason not in (FinishReason.EOS, FinishReason.STOP_TOKEN):
            return mail.tokens, None
        kept = mail.tokens if self._stop.include_stop else mail.tokens[:-1]
        return kept, mail.tokens[-1]

    def _started(self, start: SequenceStart) -> Started:
        ids = self._prompt.token_ids
        echo = self._output.echo
        return Started(
            index=self._index,
            prompt_tokens=len(ids),
            cached_tokens=start.cached_tokens,
            prompt=self._prompt.text if echo else "",
            prompt_token_ids=ids if echo else (),
            prompt_logprobs=self._prompt_logprobs(start.prompt_logprobs),
        )

    def _prompt_logprobs(self, rows: Sequence[LogprobRow]) -> tuple[TokenLogprob, ...]:
        """One entry for each prompt token; the engine's rows belong to the last ones."""
        if self._output.prompt_logprobs is None:
            return ()
        ids = self._prompt.token_ids
        rows = rows[max(0, len(rows) - len(ids) + 1) :]
        unknown = ids[: len(ids) - len(rows)]
        return (
            *(TokenLogprob(token, self._table.piece(token), None, ()) for token in unknown),
            *self._logprobs(ids[len(unknown) :], rows),
        )

    def _delta(self, texts: Sequence[str]) -> list[Event]:
        """The delta of the first tokens that wait, if there are any."""
        count = len(texts)
        if not count:
            return []
        self._num_tokens += count
        tokens, self._tokens = self._tokens[:count], self._tokens[count:]
        rows, self._rows = self._rows[:count], self._rows[count:]
        return [
            Delta(
                index=self._index,
                text="".join(texts),
                token_ids=tuple(tokens) if self._output.token_ids else (),
                logprobs=self._logprobs(tokens, rows),
                num_tokens=count,
            )
        ]

    def _logprobs(self, tokens: Sequence[int], rows: Sequence[LogprobRow]) -> tuple[TokenLogprob, ...]:
        piece = self._table.piece
        return tuple(
            TokenLogprob(
                token,
                piece(token),
                row.logprob,
                tuple(Candidate(each, piece(each), logprob) for each, logprob in row.candidates),
            )
            for token, row in zip(tokens, rows, strict=False)
        )

    def _end_at(self, match: StopMatch, engine_reason: FinishReason | None) -> list[Event]:
        delta = self._delta(match.texts)
        if engine_reason is None:
            self.sequence.stop_at(self._num_tokens)
        return [*delta, self._finished(FinishReason.STOP_STRING, match.stop)]

    def _finished(self, reason: FinishReason, matched_stop: str | int | None) -> Finished:
        self.is_finished = True
        is_extra = isinstance(matched_stop, int) and not self._stop.include_stop
        usage = Usage(
            prompt_tokens=len(self._prompt.token_ids),
            cached_tokens=self._start.cached_tokens,
            completion_tokens=self._num_tokens + is_extra,
        )
        timings = Timings(
            queue_ms=self._start.queue_us / 1000,
            prefill_ms=self._start.prefill_us / 1000,
            decode_ms=self.sequence.decode_s(time.monotonic()) * 1000,
        )
        return Finished(self._index, reason, matched_stop, usage, timings)


def _raise_for(reason: FinishReason) -> None:
    """Raises for the reasons that leave the client without a whole answer."""
    failures: dict[FinishReason, ServiceError] = {
        FinishReason.DEADLINE: DeadlineError("the request's deadline passed"),
        FinishReason.ERROR: InternalError("the engine failed while it ran this request"),
        FinishReason.CANCELLED: UnavailableError(
            "the engine gave this request up", retry_delay_s=RETRY_DELAY_S
        ),
    }
    if reason in failures:
        raise failures[reason]
