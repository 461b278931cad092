"""CPU time over a load, of the services that this process has started and of the clients."""

import os
from dataclasses import dataclass
from typing import Any

from tandem_bench.measurement import rounded
from tandem_bench.process_table import processes_below


@dataclass(frozen=True)
class CpuUse:
    """Of one load.

    Attributes:
        seconds: By role, all its processes together.
        busiest_s: By role, what the busiest of its processes took.
        rss_mib: By role, all its processes together, at the end.
    """

    seconds: dict[str, float]
    busiest_s: dict[str, float]
    rss_mib: dict[str, float]

    def to_json(self, num_tokens: int, wall_s: float) -> dict[str, Any]:
        """Of a load of so many tokens and seconds; services that run elsewhere are not there.

        A process that takes nearly 100 % of a core bounds the load: each runs Python in one thread.
        """
        return {
            "cpu_s_per_million_tokens": _each(self.seconds, 1e6 / max(1, num_tokens)),
            "busiest_process_percent_of_core": _each(self.busiest_s, 100 / max(wall_s, 1e-9)),
            "rss_mib": _each(self.rss_mib, 1.0),
        }


class CpuWatch:
    """Measures from its making on."""

    def __init__(self) -> None:
        self._before = {each.pid: each.cpu_s for each in processes_below(os.getpid())}

    def read(self) -> CpuUse:
        """What was used so far."""
        use = CpuUse({}, {}, {})
        for process in processes_below(os.getpid()):
            used_s, role = process.cpu_s - self._before.get(process.pid, 0.0), process.role
            use.seconds[role] = use.seconds.get(role, 0.0) + used_s
            use.busiest_s[role] = max(use.busiest_s.get(role, 0.0), used_s)
            use.rss_mib[role] = use.rss_mib.get(role, 0.0) + process.rss_bytes / (1 << 20)
        return use


def _each(values: dict[str, float], factor: float) -> dict[str, float]:
    return {role: rounded(value * factor) for role, value in values.items()}
