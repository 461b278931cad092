"""Calls whose messages are bytes, right or wrong: each must end within a bound; statuses are counted."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc

from support.fuzz_seeds import Method
from tandem.engine.v1 import engine_pb2
from tandem.v1 import inference_pb2

TIMEOUT_S = 20.0
STAY_S = 0.1
# The longest answer is that of 64 sequences which fill the context, some times over on one stream.
MAX_ANSWERS = 200_000
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True)
class Attempt:
    """One call.

    Attributes:
        method: What is called.
        messages: Serialized; one, or as many as a stream takes.
        leaves: Whether the client keeps its side of a stream open, and goes away in the middle.
    """

    method: Method
    messages: tuple[bytes, ...]
    leaves: bool = False


@dataclass
class Seen:
    """What came of the calls so far.

    Attributes:
        statuses: How often each status of each service came, on its own or inside a stream's answer.
        num_bytes: Bytes of input.
        num_messages: Messages of input.
        num_answers: Messages of output.
    """

    statuses: "Counter[tuple[str, str]]" = field(default_factory=Counter)
    num_bytes: int = 0
    num_messages: int = 0
    num_answers: int = 0

    def add(self, other: "Seen") -> None:
        """Counts what came of more calls."""
        self.statuses.update(other.statuses)
        self.num_bytes += other.num_bytes
        self.num_messages += other.num_messages
        self.num_answers += other.num_answers


def make(attempt: Attempt, channel: grpc.Channel) -> Seen:
    """Makes a call and reads its answers to their end.

    Raises:
        AssertionError: It did not end in time, or never stopped answering.
    """
    seen = Seen(num_bytes=sum(map(len, attempt.messages)), num_messages=len(attempt.messages))
    start_s = time.monotonic()
    # gRPC's asynchronous client reports a write to a stream that the server has ended as INTERNAL.
    call = _start(attempt, channel)
    try:
        for answer in call:
            _count(answer, attempt.method, call, seen)
    except grpc.RpcError:
        pass
    took_s, status = time.monotonic() - start_s, call.code().name
    assert took_s < TIMEOUT_S, f"{attempt} took all its time, and ended {status}"
    seen.statuses[attempt.method.service, status] += 1
    return seen


def _start(attempt: Attempt, channel: grpc.Channel) -> Any:
    path = attempt.method.path
    if not attempt.method.is_stream:
        return channel.unary_stream(path)(attempt.messages[0], timeout=TIMEOUT_S)
    has_ended = threading.Event()
    call: Any = channel.stream_stream(path)(_messages(attempt, has_ended), timeout=TIMEOUT_S)
    if not call.add_callback(has_ended.set):
        has_ended.set()
    if attempt.leaves:
        threading.Timer(STAY_S, call.cancel).start()
    return call


def _messages(attempt: Attempt, has_ended: threading.Event) -> Iterator[bytes]:
    yield from attempt.messages
    if attempt.leaves:
        has_ended.wait()


def _count(answer: bytes, method: Method, call: Any, seen: Seen) -> None:
    seen.num_answers += 1
    assert seen.num_answers < MAX_ANSWERS, f"{method.path} answers without an end"
    if method.path.endswith("/GenerateMany"):
        many = inference_pb2.GenerateManyResponse.FromString(answer)
        if many.HasField("failed"):
            seen.statuses[method.service, _CODES[many.failed.code]] += 1
    elif method.path.endswith("/Session"):
        frame = engine_pb2.SessionResponse.FromString(answer)
        if frame.HasField("rejected"):
            seen.statuses[method.service, _CODES[frame.rejected.status.code]] += 1
        # The session waits for pixels for as long as its client does.
        if frame.HasField("need_image"):
            call.cancel()
