"""What the service processes below this one take: CPU time and memory, from /proc."""

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
}


@dataclass
class Usage:
    """Of all processes of one role: CPU time since their start, and resident memory now."""

    cpu_s: float = 0.0
    rss_bytes: int = 0


def service_usage() -> dict[str, Usage]:
    """By role: tokenizer, engine_server, core."""
    usage: dict[str, Usage] = {role: Usage() for role in _ROLES.values()}
    for pid in _descendants(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            fields = _stat(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
        role = next((role for part, role in _ROLES.items() if part in command), None)
        if role is not None:
            usage[role].cpu_s += (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
            usage[role].rss_bytes += int(fields[21]) * _PAGE_BYTES
    return usage


def _descendants(root: int) -> list[int]:
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
    return found[1:]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: the second, a name, may hold spaces."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
