"""One answer of a request: what the engine sends in, a transcript out."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from tandem_service.errors import RETRY_DELAY_S, DeadlineError, InternalError, ServiceError, UnavailableError
from tokenizer_service.detokenizer import Detokenizer
from tokenizer_service.engine_sequence import EngineSequence, LogprobRow, Mail, SequenceStart
from tokenizer_service.events import Finished, FinishReason, Started, Timings, TokenLogprob, Usage
from tokenizer_service.request import Output, Stop
from tokenizer_service.stop import StopMatch, StopMatcher
from tokenizer_service.token_table import TokenTable
from tokenizer_service.transcript import Transcript, token_logprobs


@dataclass(frozen=True)
class Prompt:
    """What was encoded: the text (shown only where echo asks for it) and its token ids."""

    text: str
    token_ids: tuple[int, ...]


class Answer:
    """Turns one sequence's tokens into a transcript, whenever somebody looks into the mailbox.

    Attributes:
        sequence: The engine's side of it.
        transcript: What is certain of it.
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
        *,
        is_kept: bool,
    ) -> None:
        """`matcher` is None where the request has no stop strings; `is_kept` is the transcript's."""
        self.sequence = sequence
        self.transcript = Transcript(index, table, output, is_kept=is_kept)
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

    @property
    def is_finished(self) -> bool:
        """Whether the transcript is whole."""
        return self.transcript.finished is not None

    @property
    def num_made(self) -> int:
        """Tokens that the engine has made for it, read or not; the first answer's have the prompt's too."""
        has_prompt = self._index == 0 and self.sequence.has_started
        return self.sequence.num_tokens + (len(self._prompt.token_ids) if has_prompt else 0)

    def advance(self) -> None:
        """Takes in what has arrived.

        Raises:
            ServiceError: The answer is lost; what was certain before is in the transcript.
        """
        mail = self.sequence.take()
        self._begin(mail)
        failure = _failure_of(mail)
        is_whole = mail.finish_reason is not None and failure is None
        tokens, end_token = self._split_end(mail)
        self._tokens += tokens
        self._rows += mail.logprobs[: len(tokens)]
        texts = self._detokenizer.push(tokens)
        if is_whole:
            texts += self._detokenizer.finish()
        certain = self._matcher.push(texts) if self._matcher else texts
        if isinstance(certain, StopMatch):
            self._end_at(certain, mail.finish_reason)
            return
        if is_whole and self._matcher:
            certain += self._matcher.finish()
        self._release(certain)
        if failure is not None:
            raise failure
        if mail.finish_reason is not None:
            self._finish(mail.finish_reason, end_token)

    def _begin(self, mail: Mail) -> None:
        if mail.start is not None:
            self._start = mail.start
        if self.transcript.started is not None:
            return
        if mail.start is not None:
            self.transcript.started = self._started(mail.start.cached_tokens, mail.start.prompt_logprobs)
        elif mail.cached_tokens is not None and self._output.prompt_logprobs is None:
            # While the prompt is computed: then nothing but the first token is left to send when it comes.
            self.transcript.started = self._started(mail.cached_tokens, ())

    def _split_end(self, mail: Mail) -> tuple[list[int], int | None]:
        """The new tokens of the answer, and the token that ended the sequence, if one did.

        That token is a part of the answer only if the request includes what stops it.
        """
        if mail.finish_reason not in (FinishReason.EOS, FinishReason.STOP_TOKEN):
            return mail.tokens, None
        kept = mail.tokens if self._stop.include_stop else mail.tokens[:-1]
        return kept, mail.tokens[-1]

    def _started(self, cached_tokens: int, prompt_logprobs: Sequence[LogprobRow]) -> Started:
        ids = self._prompt.token_ids
        echo = self._output.echo
        return Started(
            index=self._index,
            prompt_tokens=len(ids),
            cached_tokens=cached_tokens,
            prompt=self._prompt.text if echo else "",
            prompt_token_ids=ids if echo else (),
            prompt_logprobs=self._prompt_logprobs(prompt_logprobs),
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
            *token_logprobs(self._table, ids[len(unknown) :], rows),
        )

    def _release(self, texts: Sequence[str]) -> None:
        """The first tokens that wait have these texts now."""
        count = len(texts)
        self.transcript.add(texts, self._tokens[:count], self._rows[:count])
        self._tokens, self._rows = self._tokens[count:], self._rows[count:]

    def _end_at(self, match: StopMatch, engine_reason: FinishReason | None) -> None:
        self._release(match.texts)
        if engine_reason is None:
            self.sequence.stop_at(self.transcript.num_tokens)
        self._finish(FinishReason.STOP_STRING, match.stop)

    def _finish(self, reason: FinishReason, matched_stop: str | int | None) -> None:
        num_textless = int(isinstance(matched_stop, int) and not self._stop.include_stop)
        usage = Usage(
            prompt_tokens=len(self._prompt.token_ids),
            cached_tokens=self._start.cached_tokens,
            completion_tokens=self.transcript.num_tokens + num_textless,
        )
        timings = Timings(
            queue_ms=self._start.queue_us / 1000,
            prefill_ms=self._start.prefill_us / 1000,
            decode_ms=self.sequence.decode_s(time.monotonic()) * 1000,
        )
        self.transcript.finished = Finished(self._index, reason, matched_stop, num_textless, usage, timings)


def _failure_of(mail: Mail) -> ServiceError | None:
    """What leaves the client without a whole answer."""
    if mail.finish_reason is None:
        return mail.error
    if mail.finish_reason is FinishReason.DEADLINE:
        return DeadlineError("the request's deadline passed")
    if mail.finish_reason is FinishReason.ERROR:
        return InternalError("the engine failed while it ran this request")
    if mail.finish_reason is FinishReason.CANCELLED:
        return UnavailableError("the engine gave this request up", retry_delay_s=RETRY_DELAY_S)
    return mail.error
