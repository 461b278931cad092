"""An engine's core in this process, with nothing between it and the clock."""

import gc
import itertools
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine_service.config import EngineConfig
from engine_service.core_main import build
from engine_service.core_messages import Command, StepRecord, Submit
from engine_service.sequence import FinishReason, SequenceSpec
from tandem_bench.gpu_memory import free_gpu_memory


@dataclass(frozen=True)
class Run:
    """What one run of some sequences brought. Times count from the moment all were submitted.

    Attributes:
        wall_s: To the last token.
        first_token_s: To each sequence's first token, in the order of their specs.
        gaps_ms: Between one token and the next of the same sequence, of all sequences.
        num_steps: Steps that brought tokens.
        num_tokens: Tokens that came.
        num_cached: Prompt tokens that came from the prefix cache.
        tokens: Each sequence's output, in the order of their specs.
    """

    wall_s: float
    first_token_s: list[float]
    gaps_ms: list[float]
    num_steps: int
    num_tokens: int
    num_cached: int
    tokens: list[list[int]]


class EngineDriver:
    """Runs batches of sequences through a core. The core's loop is the one of the service."""

    def __init__(self, config: EngineConfig) -> None:
        """Loads the model; `start_s` says how long that took.

        Raises:
            ValueError: The checkpoint cannot be served.
        """
        self.config = config
        start_s = time.perf_counter()
        self._pipe = _Pipe()
        self._core, self.info = build(config, self._pipe)  # type: ignore[arg-type]
        self.start_s = time.perf_counter() - start_s
        # What the benchmarks import is much more than a core does: its collector shall not look at it.
        gc.collect()
        gc.freeze()
        self._num_submitted = 0

    def run(self, specs: Sequence[SequenceSpec]) -> Run:
        """Submits all specs at once and runs them to their ends.

        Raises:
            ValueError: A sequence is longer than the engine's context.
            RuntimeError: A sequence did not end by its length, so that the run measures something else.
        """
        longest = max(len(spec.token_ids) + spec.max_tokens for spec in specs)
        if longest > self.info.context_length:
            raise ValueError(f"a sequence of {longest} tokens; the engine holds {self.info.context_length}")
        first = self._num_submitted
        self._num_submitted += len(specs)
        commands: list[Command] = [Submit((0, first + place), spec) for place, spec in enumerate(specs)]
        gc.collect()
        self._pipe.commands, self._pipe.records = commands, []
        start_s = time.perf_counter()
        self._core.run()
        return _read(self._pipe.records, specs, first, start_s)

    def close(self) -> None:
        """Frees the model's memory, for another engine."""
        del self._core
        gc.unfreeze()
        free_gpu_memory()


class _Pipe:
    """Stands for the pipe to the server process; bytes are kept with the time of their coming."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.records: list[tuple[float, bytes]] = []

    def poll(self, timeout: float | None) -> bool:
        """Whether there are commands; ends the core's loop when it would wait for some."""
        if not self.commands and timeout != 0:
            raise EOFError
        return bool(self.commands)

    def recv(self) -> list[Command]:
        commands, self.commands = self.commands, []
        return commands

    def send(self, record: StepRecord) -> None:
        self.records.append((time.perf_counter(), pickle.dumps(record, protocol=5)))


@dataclass
class _Reading:
    """What the records hold so far."""

    last_s: float = 0.0
    num_steps: int = 0
    num_cached: int = 0
    times_s: dict[int, list[float]] = field(default_factory=dict)
    tokens: dict[int, list[int]] = field(default_factory=dict)
    finished: dict[int, FinishReason] = field(default_factory=dict)

    def take(self, time_s: float, record: StepRecord) -> None:
        for columns in record.columns.values():
            for number, token in zip(columns.sequences, columns.tokens, strict=True):
                self.tokens.setdefault(number, []).append(token)
                self.times_s.setdefault(number, []).append(time_s)
            if columns.tokens:
                self.num_steps += 1
                self.last_s = time_s
            self.num_cached += sum(each.num_cached for each in columns.started)
            self.finished.update(columns.finished)


def _read(
    records: list[tuple[float, bytes]], specs: Sequence[SequenceSpec], first: int, start_s: float
) -> Run:
    reading = _Reading()
    for time_s, data in records:
        reading.take(time_s, pickle.loads(data))
    numbers = range(first, first + len(specs))
    for number, spec in zip(numbers, specs, strict=True):
        reason, count = reading.finished.get(number), len(reading.tokens.get(number, []))
        if reason is not FinishReason.LENGTH or count != spec.max_tokens:
            raise RuntimeError(f"a sequence ended by {reason} after {count} of {spec.max_tokens} tokens")
    return Run(
        wall_s=reading.last_s - start_s,
        first_token_s=[reading.times_s[number][0] - start_s for number in numbers],
        gaps_ms=[
            (later - earlier) * 1e3
            for number in numbers
            for earlier, later in itertools.pairwise(reading.times_s[number])
        ],
        num_steps=reading.num_steps,
        num_tokens=sum(len(tokens) for tokens in reading.tokens.values()),
        num_cached=reading.num_cached,
        tokens=[reading.tokens[number] for number in numbers],
    )
