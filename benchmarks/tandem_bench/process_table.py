"""What service processes take: CPU time and memory, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# What a command line holds, and which part of Tandem that is. The core is a spawned child of its server.
_ROLES = {
    "tokenizer_service": "tokenizer",
    "engine_service": "engine_server",
    "multiprocessing.spawn": "core",
    "serving.client_process": "clients",
}


@dataclass(frozen=True)
class Process:
    """One process: its part of Tandem, CPU time since its start, and resident memory now."""

    pid: int
    role: str
    cpu_s: float
    rss_bytes: int


def service_rss_bytes() -> dict[str, int]:
    """Resident memory of the processes below this one, by role: tokenizer, engine_server, core, clients."""
    found: dict[str, int] = {}
    for process in processes_below(os.getpid()):
        found[process.role] = found.get(process.role, 0) + process.rss_bytes
    return found


def processes_below(root: int) -> list[Process]:
    """A process and its descendants, as far as they are a part of Tandem; in the order of their ids."""
    found = []
    for pid in sorted(_with_descendants(root)):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            fields = _stat(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        role = next((role for part, role in _ROLES.items() if part in command), None)
        if role is not None:
            cpu_s = (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
            found.append(Process(pid, role, cpu_s, int(fields[21]) * _PAGE_BYTES))
    return found


def _with_descendants(root: int) -> list[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int(_stat(int(entry.name))[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: the second, a name, may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
