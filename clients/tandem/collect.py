"""Adding events up to completions, for one request or for many on one stream."""

import itertools
import uuid
from collections import defaultdict
from dataclasses import dataclass, field, replace

import grpc

from tandem import decode, encode
from tandem.errors import InternalError
from tandem.request import Request
from tandem.result import Answer, Completion, Delta, Event, Finished, Result, Started
from tandem.v1 import inference_pb2


@dataclass(slots=True)
class _Parts:
    """What has come of one answer."""

    started: Started | None = None
    deltas: list[Delta] = field(default_factory=list)
    finished: Finished | None = None


class Collector:
    """Adds the events of one request up to its completion."""

    def __init__(self, request: Request) -> None:
        """Starts with nothing of the request's n answers."""
        self._num_answers = 1 if request.n is None else request.n
        self._answers: defaultdict[int, _Parts] = defaultdict(_Parts)

    def add(self, event: Event) -> None:
        """Takes the next event."""
        answer = self._answers[event.index]
        if isinstance(event, Started):
            answer.started = event
        elif isinstance(event, Delta):
            answer.deltas.append(event)
        else:
            answer.finished = event

    def is_complete(self) -> bool:
        """Whether every answer has finished."""
        num_finished = sum(each.finished is not None for each in self._answers.values())
        return num_finished == self._num_answers

    def completion(self) -> Completion:
        """The completion.

        Raises:
            InternalError: The events ended before every answer had finished.
        """
        answers = tuple(_answer(self._answers[index], index) for index in range(self._num_answers))
        started = self._answers[0].started
        if started is None:
            raise incomplete("answer 0")
        return Completion(
            request_id=started.request_id,
            answers=answers,
            prompt=started.prompt,
            prompt_token_ids=started.prompt_token_ids,
            prompt_logprobs=started.prompt_logprobs,
        )


def _answer(parts: _Parts, index: int) -> Answer:
    finished = parts.finished
    if finished is None:
        raise incomplete(f"answer {index}")
    return Answer(
        index=index,
        text="".join(delta.text for delta in parts.deltas),
        finish_reason=finished.reason,
        stop_string=finished.stop_string,
        stop_token_id=finished.stop_token_id,
        token_ids=tuple(itertools.chain.from_iterable(delta.token_ids for delta in parts.deltas)),
        logprobs=tuple(itertools.chain.from_iterable(delta.logprobs for delta in parts.deltas)),
        usage=finished.usage,
        timings=finished.timings,
    )


def incomplete(what: str) -> InternalError:
    """The error for a stream that ended, without an error of its own, before something finished."""
    return InternalError(f"the stream ended before {what} had finished", status=grpc.StatusCode.INTERNAL)


class Batch:
    """The running requests of one GenerateMany stream."""

    def __init__(self) -> None:
        self._prefix = uuid.uuid4().hex
        self._num_added = 0
        self._running: dict[str, tuple[int, Collector]] = {}

    def add(self, prompt_or_request: str | Request) -> inference_pb2.GenerateManyRequest:
        """Takes the next request, and gives it an id if it has none.

        Returns:
            The command that starts it.

        Raises:
            ValueError: A request with this id is running, or a value does not fit its field.
        """
        index = self._num_added
        request = prompt_or_request
        if isinstance(request, str):
            request = Request(prompt=request)
        if request.request_id is None:
            request = replace(request, request_id=f"{self._prefix}-{index}")
        assert request.request_id is not None
        if request.request_id in self._running:
            raise ValueError(f"request_id={request.request_id!r}: is used by a running request")
        command = encode.many_request(request)
        self._running[request.request_id] = (index, Collector(request))
        self._num_added += 1
        return command

    def take(self, response: inference_pb2.GenerateManyResponse) -> Result | None:
        """Takes the next response; returns a request's result when that was its last."""
        request_id = response.request_id
        if request_id not in self._running:
            return None
        index, collector = self._running[request_id]
        error = decode.failure(response)
        if error is None:
            collector.add(decode.event(response))
            if not collector.is_complete():
                return None
        del self._running[request_id]
        completion = collector.completion() if error is None else None
        return Result(index, request_id, completion, error)

    def check_complete(self) -> None:
        """Called when the stream has ended.

        Raises:
            InternalError: Some request has neither finished nor failed.
        """
        if self._running:
            raise incomplete(f"{len(self._running)} requests")
