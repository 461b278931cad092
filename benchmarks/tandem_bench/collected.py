"""All measurements that a folder of results holds, the latest of each."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Collected:
    """One measurement and the run that it comes from; None where a figure has no bound."""

    shape: str
    gpu: str
    dtype: str
    name: str
    unit: str
    median: float
    bound: float | None
    percent_of_bound: float | None
    measured_at: str
    commit: str
    file: str
    details: dict[str, Any]

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit.endswith("/s")


def collect(directory: Path) -> dict[tuple[str, str], Collected]:
    """Measurements of whole workloads on a GPU, by shape and name, of engines without flags of their own."""
    found: dict[tuple[str, str], Collected] = {}
    for path in sorted(directory.glob("*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        figures = result["figures"]
        if "measurements" not in figures or figures["device"] == "cpu" or figures["shrink"] != 1:
            continue
        if figures["engine_flags"]:
            continue  # its measurements have the names of those without
        for each in figures["measurements"]:
            one = _collected(result, each, path.name)
            known = found.get((one.shape, one.name))
            if known is None or known.measured_at <= one.measured_at:
                found[one.shape, one.name] = one
    return found


def _collected(result: dict[str, Any], measurement: dict[str, Any], file: str) -> Collected:
    return Collected(
        shape=result["figures"]["shape"],
        gpu=", ".join(result["machine"]["gpus"]).partition(",")[0],
        dtype=result["figures"]["dtype"],
        measured_at=result["measured_at"],
        commit=result["commit"],
        file=file,
        **{
            key: measurement[key]
            for key in ("name", "unit", "median", "bound", "percent_of_bound", "details")
        },
    )
