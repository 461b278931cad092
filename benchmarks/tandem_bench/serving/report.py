"""The figures of loads as a table, and as a plot of latency over load."""

from collections.abc import Sequence
from typing import Any

from tandem_bench.line_chart import line_chart
from tandem_bench.measurement import shown, table

_HEADER = (
    "load",
    "requests/s",
    "tokens/s",
    "TTFT ms",
    "ITL ms",
    "TPOT ms",
    "whole ms",
    "CPU s/M tokens",
    "errors",
)
_LATENCIES = ("ttft", "itl", "tpot", "end_to_end")
_LINES = (("TTFT", "ttft"), ("ITL", "itl"))


def loads_table(loads: Sequence[dict[str, Any]]) -> str:
    """A line for each load; latencies as p50 / p90 / p99."""
    return table([_HEADER, *(_row(load) for load in loads)])


def loads_plot(title: str, loads: Sequence[dict[str, Any]]) -> str:
    """The SVG text: median and 99th percentile of TTFT and ITL over the loads."""
    lines = {
        f"{name} {rank}": [load[key].get(f"{rank}_ms") for load in loads]
        for name, key in _LINES
        for rank in ("p50", "p99")
    }
    return line_chart(title, [load["load"] for load in loads], lines, "ms")


def _row(load: dict[str, Any]) -> tuple[str, ...]:
    latencies = [" / ".join(shown(value) for value in load[key].values()) for key in _LATENCIES]
    services = [each for role, each in load["cpu_s_per_million_tokens"].items() if role != "clients"]
    return (
        load["load"],
        shown(load["requests_per_s"]),
        shown(load["output_tokens_per_s"]),
        *latencies,
        shown(sum(services)) if services else "",
        ", ".join(f"{count} {status}" for status, count in load["errors"].items()),
    )
