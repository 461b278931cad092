"""The engine as the server sees it: sessions in front, the core process behind."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Iterator

from engine_service.admission import Admission
from engine_service.config import EngineConfig
from engine_service.core_messages import (
    Command,
    End,
    EndSession,
    EngineInfo,
    PutImage,
    Report,
    StartFailed,
    StepRecord,
    Submit,
)
from engine_service.core_process import CoreProcess, StartedCore, start_core
from engine_service.observer import Observer
from engine_service.plan import Load
from engine_service.sequence import SequenceSpec
from engine_service.session import ClientSession
from tandem_service.errors import RETRY_DELAY_S, OverloadedError, UnavailableError

log = logging.getLogger("tandem.engine")

RESTART_DELAYS_S = (0.1, 1.0, 5.0, 15.0, 30.0)
# Nobody waits for what the core computes when it is stopped.
_STOP_TIMEOUT_S = 2.0
# How long a core may be silent. On a CPU a step of a long prompt's tokens takes minutes with a large model.
_HEARTBEAT_TIMEOUT_S = 30.0
_CPU_HEARTBEAT_TIMEOUT_S = 300.0


class Engine:
    """Owns the core process through its deaths, and the sessions.

    Attributes:
        info: What runs, or None while no core is ready.
        load: How busy it is, as the core last said.
        start_failure: Why the first core could not start.
        observer: Is told what happens to sequences.
    """

    def __init__(self, config: EngineConfig, first_core: StartedCore | None = None) -> None:
        """`run` takes the first core over, and starts those after it."""
        self.config = config
        self.observer = Observer(config)
        self.info: EngineInfo | None = None
        self.start_failure: str | None = None
        self.load = Load(0, 0, 0, 0)
        self._first_core = first_core
        self._core: CoreProcess | None = None
        self._num_ready = 0  # cores that were, one after the other
        self._admission = Admission(config, 0)
        self._sessions: dict[int, ClientSession] = {}
        self._images: set[bytes] = set()  # those that the core has, as far as it has said
        self._numbers = itertools.count()
        self._is_draining = False
        self._changed = asyncio.Event()
        self.observer.metrics.follow(
            lambda: self.load, lambda: len(self._sessions), lambda: self.info is not None
        )

    @contextlib.contextmanager
    def session(self) -> Iterator[ClientSession]:
        """A new session; its sequences are cancelled at the context's end.

        Raises:
            UnavailableError: The core is not ready.
        """
        self.ready_info()
        session = ClientSession(next(self._numbers))
        self._sessions[session.number] = session
        try:
            yield session
        finally:
            del self._sessions[session.number]
            if session.running:
                self._send(EndSession(session.number))
            for number in session.running:
                self._admission.leave((session.number, number))
                self.observer.ended((session.number, number))

    def ready_info(self) -> EngineInfo:
        """What runs.

        Raises:
            UnavailableError: No core is ready.
        """
        if self.info is None:
            raise UnavailableError("the engine's model is not loaded yet", retry_delay_s=RETRY_DELAY_S)
        return self.info

    def submit(self, session: ClientSession, number: int, spec: SequenceSpec) -> None:
        """Runs a sequence.

        Raises:
            OverloadedError: The queue is full, or the memory for pixels.
            DeadlineError: The first token cannot be there in time.
            UnavailableError: The engine is about to stop.
        """
        if self._is_draining:
            raise UnavailableError("the engine is about to stop", retry_delay_s=RETRY_DELAY_S)
        if spec.images:
            self._refuse_images_beyond_memory(spec)
        self._admission.enter((session.number, number), spec)
        session.running[number] = spec
        self.observer.submitted((session.number, number), spec)
        self._send(Submit((session.number, number), spec))

    def end(self, session: ClientSession, number: int) -> None:
        """Ends a sequence, if it still runs, without a further word about it."""
        if session.end(number):
            self._admission.leave((session.number, number))
            self.observer.ended((session.number, number))
            self._send(End((session.number, number)))

    def put_image(self, sha256: bytes, pixels: bytes) -> bool:
        """Leaves an image with the core; returns whether it was there."""
        was_there = sha256 in self._images
        self.observer.metrics.images_received.inc()
        self.observer.metrics.images_cached.inc(was_there)
        if not was_there:
            self._images.add(sha256)
            self._send(PutImage(sha256, pixels))
        return was_there

    def flush(self) -> None:
        """Lets the core have at once what was asked of it."""
        if self._core is not None:
            self._core.flush()

    async def run(self) -> None:
        """Keeps a core running until cancelled, or until the first one fails to start."""
        num_failures = 0
        while self.start_failure is None:
            num_ready = self._num_ready
            try:
                core, self._first_core = self._first_core or start_core(self.config), None
            except OSError as error:
                log.error("no core can be started: %s", error)
            else:
                await self._run_core(core)
            num_failures = 0 if self._num_ready > num_ready else num_failures + 1
            await asyncio.sleep(RESTART_DELAYS_S[min(num_failures, len(RESTART_DELAYS_S) - 1)])

    def drain(self) -> None:
        """Takes no more work; sessions end with what they run."""
        self._is_draining = True
        for session in self._sessions.values():
            session.close()

    async def changed(self) -> None:
        """Waits until the core became ready, died, or could not start."""
        await self._changed.wait()
        self._changed.clear()

    async def _run_core(self, core: StartedCore) -> None:
        """One life of a core."""
        self._core = CoreProcess(core, self._on_report, self._lose_core)
        try:
            await self._core.open()
            await self._core.wait()
        except asyncio.CancelledError:
            # A core that still loads would not look at its commands.
            await (self._core.stop(_STOP_TIMEOUT_S) if self.info else self._core.kill())
            raise

    def _on_report(self, report: Report) -> None:
        match report:
            case EngineInfo():
                self._watch_core(report)
                self.info = report
                self._num_ready += 1
                self.observer.ready()
                self.load = Load(0, 0, report.num_blocks, report.num_blocks)
                self._admission = Admission(self.config, report.num_blocks * report.kv_block_size)
                self._changed.set()
            case StartFailed(reason) if self._num_ready:
                log.error("the core cannot start again: %s", reason)
            case StartFailed(reason):
                self.start_failure = reason
                self._changed.set()
            case StepRecord(columns, load, needed_images, gone_images, begun, telemetry):
                self.load = load
                if telemetry is not None:
                    self._admission.rates = telemetry.rates
                for key in begun:
                    self._admission.begin(key)
                self.observer.stepped(report)
                self._images.difference_update(gone_images, *needed_images.values())
                for number, images in needed_images.items():
                    if session := self._sessions.get(number):
                        session.need_images(images)
                for number, each in columns.items():
                    for sequence, _ in each.finished:
                        self._admission.leave((number, sequence))
                    if session := self._sessions.get(number):
                        session.add_columns(each)

    def _watch_core(self, info: EngineInfo) -> None:
        assert self._core is not None
        default_s = _CPU_HEARTBEAT_TIMEOUT_S if info.device == "cpu" else _HEARTBEAT_TIMEOUT_S
        self._core.watch(self.config.heartbeat_timeout_s or default_s)

    def _lose_core(self) -> None:
        """The core is dead, or about to be: what it ran is lost."""
        self.info = None
        self.load = Load(0, 0, 0, 0)
        self._admission = Admission(self.config, 0)
        self.observer.died()
        self._images.clear()
        self._changed.set()
        for session in self._sessions.values():
            session.fail(UnavailableError("the engine's core died", retry_delay_s=RETRY_DELAY_S))

    def _refuse_images_beyond_memory(self, spec: SequenceSpec) -> None:
        """The core keeps the pixels of every sequence that has not ended."""
        vision = self.ready_info().vision
        assert vision is not None
        specs = [each for session in self._sessions.values() for each in session.running.values()]
        images = {image.sha256 for each in specs for image in each.images}
        count = len(images | {image.sha256 for image in spec.images})
        bound = (self.config.image_pixels_mib << 20) // (vision.image_size**2 * 3)
        if images and count > bound:
            raise OverloadedError(
                f"the engine's sequences would have {count} images, at most {bound}",
                retry_delay_s=self._admission.retry_delay_s,
            )

    def _send(self, command: Command) -> None:
        if self._core is not None:
            self._core.send(command)
