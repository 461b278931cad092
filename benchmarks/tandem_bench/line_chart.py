"""Lines over a load on a logarithmic scale, as a plain SVG file."""

import math
from collections.abc import Mapping, Sequence

from tandem_bench.chart import COLOURS, swatch, text

LEFT, RIGHT, TOP, BOTTOM = 70, 20, 70, 50
WIDTH, HEIGHT = 760, 400


def line_chart(
    title: str, places: Sequence[str], lines: Mapping[str, Sequence[float | None]], unit: str
) -> str:
    """The SVG text.

    Args:
        title: Above the chart.
        places: What is written below each point, from left to right.
        lines: Values by name, one for each place; None where there is none. All are above 0.
        unit: Of the values.
    """
    values = [value for line in lines.values() for value in line if value]
    low = math.floor(math.log10(min(values, default=1.0)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=1.0))))
    shapes = [text(10, 22, f"{title}, {unit}", size=15, weight="bold")]
    for exponent in range(low, high + 1):
        y = _y(10.0**exponent, low, high)
        shapes.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>')
        shapes.append(text(LEFT - 8, y + 4, f"{10.0**exponent:g}", anchor="end"))
    for place, name in enumerate(places):
        shapes.append(text(_x(place, len(places)), HEIGHT - BOTTOM + 20, name, anchor="middle"))
    x = float(LEFT)
    for index, (name, line) in enumerate(lines.items()):
        colour = COLOURS[index % len(COLOURS)]
        shapes += [swatch(x, 34, 12, colour), text(x + 17, 44, name, size=11)]
        x += 30 + 6.6 * len(name)
        points = [(_x(place, len(places)), _y(value, low, high)) for place, value in enumerate(line) if value]
        joined = " ".join(f"{left:.1f},{top:.1f}" for left, top in points)
        shapes.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
        shapes += [f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3" fill="{colour}"/>' for left, top in points]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
    background = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    return "\n".join([head, background, *shapes, "</svg>", ""])


def _x(place: int, count: int) -> float:
    room = WIDTH - LEFT - RIGHT
    return LEFT + room * (place + 0.5) / count


def _y(value: float, low: int, high: int) -> float:
    share = (math.log10(value) - low) / (high - low)
    return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
