"""The requests of one worker by their ids, so that a later call finds them."""

import functools

from tandem_service.errors import RETRY_DELAY_S, DuplicateRequestError, OverloadedError, invalid
from tokenizer_service.metering import count_attached
from tokenizer_service.model import Model
from tokenizer_service.request import Request
from tokenizer_service.running_request import RunningRequest
from tokenizer_service.validation import resume_violations

_Key = tuple[str, str]  # client, request id


class RequestRegistry:
    """Starts requests, and finds those that run or linger.

    Another worker knows nothing of them: a call that comes to it starts its request anew, and gets the
    same answer where that is greedy or has a seed.
    """

    def __init__(self, model: Model, max_lingering: int) -> None:
        """`max_lingering` bounds the requests with linger, whether anybody reads them or not."""
        self._model = model
        self._max_lingering = max_lingering
        self._requests: dict[_Key, RunningRequest] = {}
        self._lingering: set[_Key] = set()

    def attach(self, request: Request, deadline_s: float | None) -> RunningRequest:
        """The client's running request with this id and body, else a new one.

        Args:
            request: As it was sent.
            deadline_s: When the call ends, on the loop's clock.

        Raises:
            DuplicateRequestError: The id belongs to another body.
            InvalidRequestError: `resume` is wrong.
            OverloadedError: Too many requests linger, or a quota of the caller's is used up.
        """
        if not request.request_id:
            return RunningRequest(request, self._model, deadline_s)
        key = (request.origin.client, request.request_id)
        running = self._requests.get(key)
        if running is not None:
            count_attached()
            self._check(running, request)
        has_linger = request.resume.linger_s > 0
        if has_linger:
            self._check_lingering(key)
        if running is None:
            on_end = functools.partial(self._forget, key)
            # What lingers is of use to whoever comes back, however soon this call ends.
            bound_s = None if has_linger else deadline_s
            running = self._requests[key] = RunningRequest(request, self._model, bound_s, on_end)
        if has_linger:
            self._lingering.add(key)
            running.linger(request.resume.linger_s)
        return running

    def close(self) -> None:
        """Ends what lingers."""
        for running in list(self._requests.values()):
            running.close()

    def _check(self, running: RunningRequest, request: Request) -> None:
        if running.body_sha256 != request.body_sha256:
            message = f"request_id: {request.request_id!r} belongs to a request with another body"
            raise DuplicateRequestError(message)
        if violations := list(resume_violations(request, self._model.limits)):
            raise invalid(*violations)

    def _check_lingering(self, key: _Key) -> None:
        if key not in self._lingering and len(self._lingering) >= self._max_lingering:
            message = f"this worker has max_lingering={self._max_lingering} requests with linger already"
            raise OverloadedError(message, retry_delay_s=RETRY_DELAY_S)

    def _forget(self, key: _Key) -> None:
        del self._requests[key]
        self._lingering.discard(key)
