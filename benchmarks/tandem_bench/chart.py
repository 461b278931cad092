"""Bars side by side, as a plain SVG file."""

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#1b6ca8", "#b0b7bf", "#e09f3e", "#9e2a2b")
LEFT, RIGHT, BAR, GAP, TOP = 210, 60, 13, 12, 60
WIDTH = 760


@dataclass(frozen=True)
class Group:
    """The bars of one workload; None where a series has no value."""

    label: str
    values: tuple[float | None, ...]


def bar_chart(title: str, series: Sequence[str], groups: Sequence[Group], unit: str, full: float) -> str:
    """The SVG text of horizontal bars.

    Args:
        title: Above the chart.
        series: What each bar of a group stands for.
        groups: From top to bottom.
        unit: Written behind each value.
        full: The value of a bar as long as the chart.
    """
    shapes = [text(10, 22, title, size=15, weight="bold"), *_legend(series)]
    y = TOP
    for group in groups:
        bars = [(index, value) for index, value in enumerate(group.values) if value is not None]
        shapes.append(text(LEFT - 8, y + len(bars) * BAR / 2 + 4, group.label, anchor="end"))
        for index, value in bars:
            length = min(value / full, 1.0) * (WIDTH - LEFT - RIGHT)
            shapes.append(swatch(LEFT, y, length, COLOURS[index]))
            shapes.append(text(LEFT + length + 4, y + BAR - 3, f"{value:.0f}{unit}", size=10))
            y += BAR
        y += GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif">'
    background = f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>'
    return "\n".join([head, background, *shapes, "</svg>", ""])


def _legend(series: Sequence[str]) -> list[str]:
    shapes, x = [], 10.0
    for index, name in enumerate(series):
        shapes += [swatch(x, 34, 12, COLOURS[index]), text(x + 17, 44, name, size=11)]
        x += 30 + 6.6 * len(name)
    return shapes


def swatch(x: float, y: float, length: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{length:.1f}" height="{BAR - 2}" fill="{colour}"/>'


def text(
    x: float, y: float, words: str, *, size: int = 12, anchor: str = "start", weight: str = "normal"
) -> str:
    """Words at a place; `anchor` is start, middle or end."""
    style = f'font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="#222222"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'
