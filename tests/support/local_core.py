"""A core in the test's own process, stepped by the test instead of by a server."""

import pickle
import time
from pathlib import Path
from typing import Any

from engine_service.config import EngineConfig
from engine_service.core import BEAT_S, Core
from engine_service.core_main import build
from engine_service.core_messages import Command, End, StepRecord, Submit
from engine_service.plan import Started
from engine_service.sequence import FinishReason, Logprobs, SequenceSpec


class LocalPipe:
    """Stands for the pipe to the server: commands are put in, records are taken out."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.records: list[StepRecord] = []

    def poll(self, timeout: float) -> bool:
        assert self.commands or timeout < BEAT_S, "the core would wait for a command"
        if not self.commands:
            time.sleep(timeout)
        return bool(self.commands)

    def recv(self) -> list[Command]:
        commands, self.commands = self.commands, []
        return commands

    def send(self, record: StepRecord) -> None:
        self.records.append(pickle.loads(pickle.dumps(record)))


# On the CPU wherever the tests run, unless a test asks for the GPU.
DEFAULTS = {"device": "cpu", "kv_cache_mib": 16, "max_num_seqs": 64}


class LocalCore:
    """Runs sequences to their ends and keeps what was published of each.

    Attributes:
        tokens, started, finished, logprobs, prompt_logprobs: By sequence number.
        needed_images: Those that were asked for, in order.
    """

    def __init__(self, model: Path | str, **flags: Any) -> None:
        config = EngineConfig(model=str(model), **(DEFAULTS | flags))
        self.pipe = LocalPipe()
        core, self.info = build(config, self.pipe)  # type: ignore[arg-type]
        self.core: Core[Any] = core
        self.scheduler = core._scheduler
        self.images = core._scheduler._images
        self.needed_images: list[bytes] = []
        self.tokens: dict[int, list[int]] = {}
        self.started: dict[int, Started] = {}
        self.finished: dict[int, FinishReason] = {}
        self.logprobs: dict[int, Logprobs] = {}
        self.prompt_logprobs: dict[int, Logprobs] = {}

    def submit(self, number: int, spec: SequenceSpec) -> None:
        """Queues a sequence; it is taken up with the next step."""
        self.tokens[number] = []
        self.pipe.commands.append(Submit((0, number), spec))

    def end(self, number: int) -> None:
        """Cancels a sequence with the next step."""
        self.pipe.commands.append(End((0, number)))

    @property
    def is_busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self.pipe.commands) or self.scheduler.has_work or self.core._previous is not None

    def step(self) -> None:
        """One turn of the core's loop, with the scheduler's invariants checked after it."""
        self.core.step()
        self.scheduler.check()
        records, self.pipe.records = self.pipe.records, []
        for record in records:
            for images in record.needed_images.values():
                self.needed_images += images
            for columns in record.columns.values():
                self._take(columns)

    def run(self) -> None:
        """Steps until nothing is left to do."""
        while self.is_busy:
            self.step()

    def generate(self, spec: SequenceSpec) -> list[int]:
        """Runs one sequence on its own and returns its tokens."""
        number = len(self.tokens)
        self.submit(number, spec)
        self.run()
        return self.tokens[number]

    def _take(self, columns: Any) -> None:
        for number, token in zip(columns.sequences, columns.tokens, strict=True):
            assert number not in self.finished, "a token after the end"
            self.tokens[number].append(token)
        for each in columns.started:
            assert each.sequence not in self.started, "started twice"
            self.started[each.sequence] = each
        for number, logprobs in columns.logprobs.items():
            self.logprobs.setdefault(number, Logprobs(logprobs.num_candidates)).extend(logprobs)
        self.prompt_logprobs |= columns.prompt_logprobs
        for number, reason in columns.finished:
            assert number not in self.finished, "finished twice"
            self.finished[number] = reason
