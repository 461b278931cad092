"""What tests of an engine's queue say to it: specs, sessions, and its load."""

import time
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any

from tandem.engine.v1 import engine_pb2 as pb


def spec(prompt: Sequence[int], max_tokens: int = 4, **fields: Any) -> pb.SequenceSpec:
    """A sequence whose end only its length or a deadline is."""
    return pb.SequenceSpec(token_ids=prompt, max_tokens=max_tokens, ignore_eos=True, **fields)


def prompt_of(number: int, length: int) -> list[int]:
    """Token ids that no other number's prompt begins with."""
    return [10 + number // 1000, 10 + number % 1000, *(10 + place % 1000 for place in range(length - 2))]


def load_when(stub: Any, condition: Callable[[pb.Load], bool]) -> pb.Load:
    """The load as soon as it is as wanted."""
    for _ in range(500):
        load: pb.Load = stub.GetLoad(pb.GetLoadRequest()).load
        if condition(load):
            return load
        time.sleep(0.02)
    raise AssertionError(f"the load stays {load}")


def is_idle(load: pb.Load) -> bool:
    """Whether nothing runs or waits, and all blocks are free."""
    return load.num_running == load.num_waiting == 0 and load.num_free_blocks == load.num_blocks


class Session:
    """One stream, and what its frames said of each sequence."""

    def __init__(self, stub: Any) -> None:
        self.tokens: dict[int, list[int]] = {}
        self.finished: dict[int, int] = {}
        self.rejected: dict[int, Any] = {}
        self._requests: SimpleQueue[pb.SessionRequest | None] = SimpleQueue()
        info = stub.GetEngineInfo(pb.GetEngineInfoRequest()).info
        hello = pb.ClientHello(protocol_version=1, fingerprint=info.fingerprint)
        self._requests.put(pb.SessionRequest(hello=hello))
        self._frames = stub.Session(iter(self._requests.get, None), timeout=60)

    def submit(self, specs: dict[int, pb.SequenceSpec]) -> None:
        """Submits sequences in one message."""
        submits = [pb.Submit(sequence=number, spec=each) for number, each in specs.items()]
        self._requests.put(pb.SessionRequest(submits=submits))

    def cancel(self, numbers: Sequence[int]) -> None:
        """Cancels sequences."""
        self._requests.put(pb.SessionRequest(cancels=numbers))

    def close(self) -> None:
        """Nothing more will be asked; the stream ends with its last sequence."""
        self._requests.put(None)

    def read_until(self, condition: Callable[["Session"], bool]) -> None:
        """Reads frames until what they said is as wanted, or there are no more."""
        while not condition(self):
            frame = next(self._frames, None)
            if frame is None:
                return
            self._take(frame)

    def read_all(self) -> None:
        """Reads to the stream's end."""
        self.close()
        self.read_until(lambda session: False)

    def _take(self, frame: pb.SessionResponse) -> None:
        for sequence, token in zip(frame.step.sequences, frame.step.tokens, strict=True):
            self.tokens.setdefault(sequence, []).append(token)
        self.finished |= zip(frame.step.finished_sequences, frame.step.finished_reasons, strict=True)
        if frame.HasField("rejected"):
            self.rejected[frame.rejected.sequence] = frame.rejected.status


def details(status: Any, name: str) -> Iterator[bytes]:
    """The details of one type, for example RetryInfo."""
    return (each.value for each in status.details if each.type_url.endswith(f".{name}"))
