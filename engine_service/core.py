"""The core process: schedule, launch, collect, publish. No gRPC and no asyncio."""

import logging
import time
from typing import Generic, Protocol, TypeVar

from engine_service.core_messages import (
    Command,
    End,
    EndSession,
    PutImage,
    Shutdown,
    StepRecord,
    Submit,
    Telemetry,
)
from engine_service.core_pipe import CoreEnd
from engine_service.plan import Outcome, Plan
from engine_service.scheduler import Scheduler

log = logging.getLogger("tandem.core")

BEAT_S = 0.5
"""The longest time between two records, apart from that of one step."""
TELEMETRY_S = 0.1
"""The time between two records with telemetry while there is work."""

Launched = TypeVar("Launched")


class Runner(Protocol[Launched]):
    """Computes plans: the model, or the fake engine."""

    def launch(self, plan: Plan) -> Launched:
        """Starts a step and returns at once where the device allows it."""
        ...

    def collect(self, launched: Launched) -> Outcome:
        """Waits for a step."""
        ...

    def check(self) -> None:
        """Called after a step broke; raises if the device broke with it, which ends the core."""
        ...


class Core(Generic[Launched]):
    """The loop that runs one step ahead of what it has read back."""

    def __init__(self, scheduler: Scheduler, runner: Runner[Launched], pipe: CoreEnd) -> None:
        """`pipe` brings commands and takes step records."""
        self._scheduler = scheduler
        self._runner = runner
        self._pipe = pipe
        self._previous: tuple[Plan, Launched] | None = None
        self._is_stopping = False
        self._published_load = scheduler.load
        self._published_s = self._told_s = time.monotonic()
        self._step_seconds: list[float] = []

    def run(self) -> None:
        """Steps until a Shutdown command comes or the other end of the pipe is gone."""
        try:
            while not self._is_stopping:
                self.step()
        except (EOFError, BrokenPipeError):
            log.info("the server process is gone")

    def step(self) -> None:
        """One turn: commands in, the next step launched, the step before read back and published."""
        self._obey_commands()
        begin_s = time.perf_counter()
        plan = self._scheduler.schedule()
        launched = self._launch(plan)
        self._collect(self._previous)
        if self._previous is not None:
            self._step_seconds.append(time.perf_counter() - begin_s)
        self._previous = launched
        self._publish()

    def _obey_commands(self) -> None:
        """Takes what has arrived; waits for something to do if there is nothing."""
        wait_s = self._idle_s() if self._previous is None else 0.0
        while not self._is_stopping and self._pipe.poll(wait_s):
            for command in self._pipe.recv():
                self._obey(command)
            wait_s = 0.0

    def _idle_s(self) -> float:
        idle_s = self._scheduler.idle_s
        return BEAT_S if idle_s is None else min(idle_s, BEAT_S)

    def _obey(self, command: Command) -> None:
        match command:
            case Submit(key, spec):
                self._scheduler.add(key, spec)
            case End(key):
                self._scheduler.cancel(key)
            case EndSession(session):
                self._scheduler.cancel_session(session)
            case PutImage(sha256, pixels):
                self._scheduler.put_image(sha256, pixels)
            case Shutdown():
                self._is_stopping = True

    def _launch(self, plan: Plan) -> tuple[Plan, Launched] | None:
        if plan.is_empty:
            return None
        try:
            return plan, self._runner.launch(plan)
        except Exception:
            self._fail(plan)
            return None

    def _collect(self, previous: tuple[Plan, Launched] | None) -> None:
        if previous is None:
            return
        plan, launched = previous
        try:
            outcome = self._runner.collect(launched)
        except Exception:
            self._fail(plan)
        else:
            self._scheduler.update(plan, outcome)

    def _fail(self, plan: Plan) -> None:
        log.exception("step %d broke; its requests fail", plan.step)
        self._runner.check()
        self._scheduler.fail(plan)

    def _publish(self) -> None:
        columns, load = self._scheduler.take_columns(), self._scheduler.load
        needed, gone = self._scheduler.take_needed_images(), self._scheduler.take_gone_images()
        begun = self._scheduler.take_begun()
        # A cancelled sequence leaves no columns, but the load must not stay what it was. A record without
        # news is a heartbeat.
        has_news = columns or needed or gone or begun or load != self._published_load
        now_s = time.monotonic()
        if has_news or now_s - self._published_s >= BEAT_S:
            self._published_load, self._published_s = load, now_s
            self._pipe.send(StepRecord(columns, load, needed, gone, begun, self._take_telemetry(now_s)))

    def _take_telemetry(self, now_s: float) -> Telemetry | None:
        """What was measured, if it is time to tell or there will be nothing to do."""
        if self._previous is not None and now_s - self._told_s < TELEMETRY_S:
            return None
        self._told_s = now_s
        seconds, self._step_seconds = self._step_seconds, []
        return Telemetry(self._scheduler.rates, self._scheduler.counts, seconds)
