"""One measured figure with its runs, and beside it the floor or ceiling that it is held against."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measurement:
    """A figure.

    Attributes:
        name: What was measured, for example "latency-16".
        unit: Of the figure, for example "ms/step" or "tokens/s".
        runs: Every counted run, in order.
        bound: The best that the hardware allows, in the same unit; None where there is no model of it.
        is_rate: Whether more is better.
        details: Whatever else belongs to it, units in the keys.
    """

    name: str
    unit: str
    runs: Sequence[float]
    bound: float | None = None
    is_rate: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.runs)

    @property
    def percent_of_bound(self) -> float | None:
        """How near the figure comes to what the hardware allows; 100 is there."""
        if not self.bound or not self.median:
            return None
        return 100 * (self.median / self.bound if self.is_rate else self.bound / self.median)

    def to_json(self) -> dict[str, Any]:
        """What results hold of it."""
        percent = self.percent_of_bound
        return {
            "name": self.name,
            "unit": self.unit,
            "median": rounded(self.median),
            "bound": None if self.bound is None else rounded(self.bound),
            "percent_of_bound": None if percent is None else round(percent, 1),
            "runs": [rounded(run) for run in self.runs],
            "details": self.details,
        }

    def row(self) -> tuple[str, ...]:
        """What the table shows of it."""
        percent = self.percent_of_bound
        bound = "" if self.bound is None else shown(self.bound)
        return self.name, shown(self.median), self.unit, bound, "" if percent is None else f"{percent:.1f} %"


@dataclass(frozen=True)
class Failure:
    """What could not be measured, and why."""

    name: str
    error: str

    def to_json(self) -> dict[str, Any]:
        """What results hold of it."""
        return {"name": self.name, "error": self.error}


Outcome = Measurement | Failure
HEADER = ("workload", "median", "unit", "bound", "of bound")


def rounded(value: float) -> float:
    """Five significant digits."""
    return float(f"{value:.5g}")


def shown(value: float) -> str:
    """For people: thousands separated, three digits of small numbers."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}" if abs(value) < 10 else f"{value:.1f}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def percentiles(values: Sequence[float], unit: str) -> dict[str, float]:
    """Median, 90th and 99th percentile under `p50_UNIT` and so on; empty without values."""
    if not values:
        return {}
    ordered = sorted(values)

    def rank(percent: int) -> float:
        # The nearest rank: the smallest value that is not below so many percent of them.
        return rounded(ordered[-(-len(ordered) * percent // 100) - 1])

    p50 = rounded(statistics.median(ordered))
    return {f"p50_{unit}": p50, f"p90_{unit}": rank(90), f"p99_{unit}": rank(99)}
