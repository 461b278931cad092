"""What clients that read slowly cost those that read at once."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from tandem_bench.measurement import rounded
from tandem_bench.serving.clients import Clients
from tandem_bench.serving.figures import Figures
from tandem_bench.serving.load_plan import Load
from tandem_bench.serving.run import Work
from tandem_bench.serving.server import Server
from tandem_bench.serving.timed_answer import OK, TimedAnswer


@dataclass(frozen=True)
class SlowReaders:
    """Streams that wait after each event.

    Attributes:
        answers: Those that have ended; they are read at once when the others are done.
    """

    num_streams: int
    pause_s: float
    answers: list[TimedAnswer] = field(default_factory=list)

    @contextlib.contextmanager
    def reading(self, server: Server, work: Work) -> Iterator[None]:
        """They read within the context, and have ended after it."""
        load = Load(num_streams=self.num_streams, num_requests=4 * self.num_streams)
        with Clients(server, 1) as clients:
            clients.start(replace(work.job(load), pause_s=self.pause_s))
            yield
            clients.stop()
            clients.finish(self.answers)

    def compared(self, alone: list[Figures], beside: list[Figures]) -> dict[str, Any]:
        """The gaps of those that read at once, alone and beside the slow ones; None where there are none."""
        p99_ms = [[each.to_json()["itl"].get("p99_ms") for each in runs] for runs in (alone, beside)]
        has_gaps = None not in p99_ms[0] + p99_ms[1]
        change = median(p99_ms[1]) / median(p99_ms[0]) - 1 if has_gaps else None
        return {
            "num_slow": self.num_streams,
            "pause_s": self.pause_s,
            "num_slow_answers": len(self.answers),
            "num_slow_not_whole": sum(each.status != OK for each in self.answers),
            "itl_p99_ms_alone": p99_ms[0],
            "itl_p99_ms_beside": p99_ms[1],
            "itl_p99_change_percent": None if change is None else rounded(100 * change),
        }
