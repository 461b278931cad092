"""Several worker processes behind one port, watched and restarted."""

import asyncio
import dataclasses
import logging
import sys
import time

from tandem_service.flags import to_arguments
from tandem_service.termination import wait_for_termination
from tokenizer_service.config import TokenizerServiceConfig
from tokenizer_service.worker_metrics import WorkerMetrics

log = logging.getLogger("tandem.tokenizer")

EXIT_UNUSABLE = 2
"""Exit status of a worker that would fail again: wrong flags, no such model, another engine's model."""

_MIN_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 10.0
# A worker that lived this long was well; its end says nothing about the next one's.
_WELL_AFTER_S = 30.0
# On top of lame duck and grace time, before a worker that does not end is killed.
_KILL_AFTER_S = 5.0


class Workers:
    """Keeps a number of workers running."""

    def __init__(self, config: TokenizerServiceConfig, metrics: WorkerMetrics) -> None:
        """`config.workers` says how many; `metrics` is told of their lives."""
        self._config = config
        self._metrics = metrics
        # A worker ends with its standard input, so none outlives this process.
        worker_config = dataclasses.replace(
            config, workers=1, is_worker=True, ends_with_input=True, metrics_listen=""
        )
        self._command = [sys.executable, "-m", "tokenizer_service", *to_arguments(worker_config)]
        self._processes: set[asyncio.subprocess.Process] = set()
        self._is_ending = False

    async def run(self) -> int:
        """Runs until SIGTERM or SIGINT, or until a worker is unusable; gives the exit status."""
        keepers = [asyncio.create_task(self._keep_one(i)) for i in range(self._config.workers)]
        ending = asyncio.create_task(wait_for_termination(self._config.ends_with_input))
        await asyncio.wait({*keepers, ending}, return_when=asyncio.FIRST_COMPLETED)
        self._is_ending = True
        await self._end_processes()
        for keeper in keepers:
            keeper.cancel()
        return 0 if ending.done() else EXIT_UNUSABLE

    async def _keep_one(self, index: int) -> None:
        """Starts a worker again and again; returns when that is useless."""
        backoff_s = _MIN_BACKOFF_S
        while not self._is_ending:
            started_s = time.monotonic()
            # In a session of its own: Ctrl-C reaches this process alone, which passes it on once.
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,
                env=self._metrics.environment,
            )
            self._processes.add(process)
            self._metrics.started()
            status = await process.wait()
            self._processes.discard(process)
            self._metrics.ended(process.pid, is_death=not self._is_ending)
            if self._is_ending or status == EXIT_UNUSABLE:
                return
            if time.monotonic() - started_s > _WELL_AFTER_S:
                backoff_s = _MIN_BACKOFF_S
            log.error("worker %d ended with status %d; next one in %.1f s", index, status, backoff_s)
            await asyncio.sleep(backoff_s)
            backoff_s = min(2 * backoff_s, _MAX_BACKOFF_S)

    async def _end_processes(self) -> None:
        processes = set(self._processes)
        for process in processes:
            process.terminate()
        waits = [asyncio.create_task(process.wait()) for process in processes]
        if not waits:
            return
        await asyncio.wait(waits, timeout=self._config.lame_duck_s + self._config.grace_s + _KILL_AFTER_S)
        for process in processes:
            if process.returncode is None:
                log.error("worker %d did not end in time; killed", process.pid)
                process.kill()
