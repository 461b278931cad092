"""Going on with an answer that broke off: what of it has come, and what is new of what comes again."""

import secrets
import uuid
from collections import defaultdict
from dataclasses import dataclass, replace

from tandem.request import Request
from tandem.result import Delta, Event, Started


@dataclass(slots=True)
class _Seen:
    """What has come of one answer, and how much of that the present call will repeat."""

    has_started: bool = False
    has_finished: bool = False
    num_tokens: int = 0
    num_chars: int = 0
    num_repeated_tokens: int = 0
    num_repeated_chars: int = 0


class Resumption:
    """Follows the events of one request through its calls.

    Attributes:
        is_possible: Whether an answer that has begun may be gone on with.
    """

    def __init__(self, request: Request) -> None:
        """Nothing has come yet."""
        self.is_possible = request.linger is not None
        self._num_answers = 1 if request.n is None else request.n
        self._answers: defaultdict[int, _Seen] = defaultdict(_Seen)

    def begin(self) -> int:
        """A new call begins; how many tokens of each answer it shall leave out.

        A single answer goes on behind its last token. Several were cut at different tokens, of which
        the service takes but one, so they come again as a whole.
        """
        if self._num_answers == 1:
            return self._answers[0].num_tokens
        for seen in self._answers.values():
            seen.num_repeated_tokens, seen.num_repeated_chars = seen.num_tokens, seen.num_chars
        return 0

    def new_part(self, event: Event) -> Event | None:
        """What of an event has not come before; None if there is nothing."""
        seen = self._answers[event.index]
        if isinstance(event, Delta):
            return _new_part(event, seen)
        if isinstance(event, Started):
            was_seen, seen.has_started = seen.has_started, True
        else:
            was_seen, seen.has_finished = seen.has_finished, True
        return None if was_seen else event


def resumable(request: Request) -> Request:
    """The request with an id, by which it is found again, and a seed, so that it can be drawn again."""
    return replace(
        request,
        request_id=request.request_id or uuid.uuid4().hex,
        seed=secrets.randbits(64) if request.seed is None else request.seed,
    )


def _new_part(delta: Delta, seen: _Seen) -> Delta | None:
    num_tokens = min(seen.num_repeated_tokens, delta.num_tokens)
    num_chars = min(seen.num_repeated_chars, len(delta.text))
    seen.num_repeated_tokens -= num_tokens
    seen.num_repeated_chars -= num_chars
    if num_tokens:
        delta = replace(
            delta,
            text=delta.text[num_chars:],
            token_ids=delta.token_ids[num_tokens:],
            logprobs=delta.logprobs[num_tokens:],
            num_tokens=delta.num_tokens - num_tokens,
        )
    seen.num_tokens += delta.num_tokens
    seen.num_chars += len(delta.text)
    return delta if delta.num_tokens else None
