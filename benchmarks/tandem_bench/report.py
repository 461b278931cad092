"""`python -m tandem_bench report`: the README's table and plot, drawn anew from the results."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tandem_bench.chart import Group, bar_chart
from tandem_bench.collected import Collected, collect
from tandem_bench.measurement import shown
from tandem_bench.peers import COMPILED, EAGER
from tandem_bench.published import GPU, PUBLISHED, SOURCE, VLLM

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
# What the README shows of what is measured, and as what.
LABELS = {
    "latency-1": "decode, 1 sequence",
    "latency-16": "decode, 16 sequences",
    "latency-64": "decode, 64 sequences",
    "latency-256": "decode, 256 sequences",
    "mix256": "256 mixed requests",
    "mix256-top-p": "256 mixed requests, top-p",
    "mix1024": "1024 mixed requests",
    "prefill-1": "prefill, 1 x 3968",
    "prefill-16": "prefill, 16 x 3968",
    "ttft-128": "first token after 128",
    "seed": "25 in, 1900 out",
    "serve-256": "256 mixed, through the services",
    "serve-256-workers-2": "the same, 2 tokenizer workers",
    "serve-256-workers-2-share": "share of the engine's throughput",
    "serve-256-workers-2-itl-added": "added to gaps (p99), 256 streams",
    "serve-1-workers-2-itl-added": "added to gaps (p99), 1 stream",
    "serve-1-workers-2-ttft-added": "added to the first token, 1 stream",
    "serve-256-workers-2-busy-poll-share": "polling busily: share",
    "serve-256-workers-2-busy-poll-itl-added": "polling busily: gaps (p99), 256 streams",
    "serve-1-workers-2-busy-poll-itl-added": "polling busily: gaps (p99), 1 stream",
    "serve-1-workers-2-busy-poll-ttft-added": "polling busily: first token, 1 stream",
    "vision-tower-1": "vision tower, 1 image",
    "vision-tower-32": "vision tower, 32 images",
    "vision-fresh": "64 new images at once",
    "vision-repeated": "64 known images at once",
    "vision-repeated-other-text": "64 known images, other text",
    "vision-ttft-fresh": "first token, new image",
    "vision-ttft-repeated": "first token, known image",
    "vision-ttft-repeated-other-text": "first token, known, other text",
    "vision-preprocess": "preprocessing, a core",
    "start-empty-cache": "start, empty Triton cache",
    "start-warm-cache": "start, filled Triton cache",
}
PEERS = (COMPILED, EAGER)
SERIES = ("Tandem", f"{VLLM} (measured elsewhere)", "transformers compiled", "transformers eager")

Found = Mapping[tuple[str, str], Collected]


def main(arguments: Sequence[str]) -> int:
    """Redraws; leaves the README as it is if there are no figures from a GPU."""
    parser = argparse.ArgumentParser(
        prog="python -m tandem_bench report", description="Redraws the README's figures from the results."
    )
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parsed = parser.parse_args(arguments)
    found = collect(parsed.results)
    if not found:
        print(f"{parsed.results}: no figures from a GPU; nothing is redrawn", file=sys.stderr)
        return 0
    try:
        redraw(found, parsed.results, parsed.readme)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def redraw(found: Found, results: Path, readme: Path) -> None:
    """Writes a plot for each shape beside the results, and the part of the README between its markers.

    Raises:
        ValueError: The README has no markers.
    """
    text = readme.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme}: has no {BEGIN} and {END}")
    parts = []
    for shape in sorted({each.shape for each in found.values() if each.name in LABELS}):
        parts.append(_section(found, shape))
        if groups := _groups(found, shape):
            plot = results / f"{shape}.svg"
            title = f"{shape}: share of what the hardware allows"
            plot.write_text(bar_chart(title, SERIES, groups, " %", 100.0), encoding="utf-8")
            parts.append(f"![{title}]({plot.relative_to(readme.parent).as_posix()})")
    readme.write_text("\n\n".join([before + BEGIN, *parts, END + after]), encoding="utf-8")


def _section(found: Found, shape: str) -> str:
    """A shape's table and what it was measured on."""
    own = [each for name in LABELS if (each := found.get((shape, name)))]
    lines = [
        f"| {shape} | Tandem | of the bound | transformers compiled | eager | {VLLM}¹ |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(found, each) for each in own),
    ]
    machines = ", ".join(sorted({f"{each.gpu}, {each.dtype}" for each in own}))
    files = ", ".join(f"[{name}](benchmarks/results/{name})" for name in sorted({each.file for each in own}))
    note = f"Random weights; medians; {machines}; {files}. The bound is a model of reads and operations at "
    note += "the ceilings measured in the same run."
    if _published(found, shape):
        note += f" ¹ {SOURCE}."
    return "\n".join([*lines, "", note])


def _row(found: Found, own: Collected) -> str:
    peers = [found.get((own.shape, f"{own.name}-{kind}")) for kind in PEERS]
    published = _published(found, own.shape).get(own.name)
    cells = [
        LABELS[own.name],
        f"{shown(own.median)} {own.unit}",
        "" if own.percent_of_bound is None else f"{own.percent_of_bound:.0f} %",
        *("" if peer is None else shown(peer.median) for peer in peers),
        "" if published is None else shown(published),
    ]
    return f"| {' | '.join(cells)} |"


def _published(found: Found, shape: str) -> Mapping[str, float]:
    """Others' figures, where ours are from the same GPU model."""
    gpus = {each.gpu for each in found.values() if each.shape == shape}
    return PUBLISHED.get(shape, {}) if gpus == {GPU} else {}


def _groups(found: Found, shape: str) -> list[Group]:
    """The bars of each workload that has a bound."""
    groups = []
    for name, label in LABELS.items():
        own = found.get((shape, name))
        if own is None or own.bound is None:
            continue
        peers = [found.get((shape, f"{name}-{kind}")) for kind in PEERS]
        others = [_published(found, shape).get(name)]
        others += [None if peer is None else peer.median for peer in peers]
        percents = [_percent(own, value) for value in (own.median, *others)]
        groups.append(Group(label, tuple(percents)))
    return groups


def _percent(own: Collected, value: float | None) -> float | None:
    """A value against the bound of our measurement."""
    if value is None or own.bound is None:
        return None
    return 100 * (value / own.bound if own.is_rate else own.bound / value)
