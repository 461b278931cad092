"""The statuses that docs/statuses.md lists, by service."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/statuses.md"


def documented_statuses() -> dict[str, set[str]]:
    """Names of statuses under each service's full name."""
    found: dict[str, set[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            found[line.removeprefix("## ")] = set()
        elif line.startswith("| ") and not line.startswith(("| status", "| ---")):
            list(found.values())[-1].add(line.split("|")[1].strip())
    return found
