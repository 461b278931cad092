"""Drawing a scene with Pillow: antialiased shapes on a background, and noise over both."""

import math
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tandem_demo.pictures.backgrounds import add_noise, paint
from tandem_demo.pictures.scene import Item, Scene

SUPERSAMPLE = 4
_CROSS_ARM = 0.30
_RING_HOLE = 0.52
_STAR_DENT = 0.45

Point = tuple[float, float]


def draw(scene: Scene, side: int) -> Image.Image:
    """The picture of a scene, `side` by `side` pixels; the same scene gives the same picture."""
    rng = np.random.default_rng(scene.seed)
    if scene.background.style == "plain":
        picture = Image.new("RGB", (side, side), scene.background.first)
    else:
        picture = Image.fromarray(paint(scene.background, side, rng))
    for item in scene.items:
        left, top, mask = _mask(item, side)
        picture.paste(item.rgb, (left, top), mask)
    if scene.noise:
        picture = Image.fromarray(add_noise(np.asarray(picture), scene.noise, rng))
    return picture


def _mask(item: Item, side: int) -> tuple[int, int, Image.Image]:
    """An item's coverage (`L`, 0 to 255) and where its left top corner lies in the picture."""
    left = math.floor((item.x - item.radius) * side) - 1
    top = math.floor((item.y - item.radius) * side) - 1
    size = math.ceil(2 * item.radius * side) + 3
    tile = Image.new("L", (size * SUPERSAMPLE, size * SUPERSAMPLE))
    centre = ((item.x * side - left) * SUPERSAMPLE, (item.y * side - top) * SUPERSAMPLE)
    radius = item.radius * side * SUPERSAMPLE
    if item.family == "digit":
        tile = _draw_digit(tile, item, centre, radius)
    else:
        _draw_shape(ImageDraw.Draw(tile), item, centre, radius)
    return left, top, tile.reduce(SUPERSAMPLE)


def _draw_shape(pen: ImageDraw.ImageDraw, item: Item, centre: Point, radius: float) -> None:
    if item.kind in ("circle", "ring"):
        pen.ellipse(_box(centre, radius), fill=255)
        if item.kind == "ring":
            pen.ellipse(_box(centre, radius * _RING_HOLE), fill=0)
        return
    pen.polygon([_turn(point, item.angle, centre, radius) for point in OUTLINES[item.kind]], fill=255)


def _draw_digit(tile: Image.Image, item: Item, centre: Point, radius: float) -> Image.Image:
    pen = ImageDraw.Draw(tile)
    font, stroke = _font(round(2.5 * radius)), round(0.05 * radius)
    pen.text(centre, item.kind[-1], fill=255, font=font, anchor="mm", stroke_width=stroke)
    return tile.rotate(-item.angle, Image.Resampling.BILINEAR, center=centre)


@lru_cache(maxsize=256)
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font."""
    return ImageFont.load_default(size)


def _box(centre: Point, radius: float) -> tuple[float, float, float, float]:
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def _turn(point: Point, angle: float, centre: Point, radius: float) -> Point:
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    x, y = point
    return centre[0] + radius * (x * cos - y * sin), centre[1] + radius * (x * sin + y * cos)


def _circle_points(angles: list[float], radii: list[float]) -> list[Point]:
    """Points around the origin; angle 0 is up."""
    return [
        (radius * math.sin(math.radians(angle)), -radius * math.cos(math.radians(angle)))
        for angle, radius in zip(angles, radii, strict=True)
    ]


def _cross_points() -> list[Point]:
    arm = _CROSS_ARM
    quarter = [(arm, -arm), (0.95, -arm), (0.95, arm)]
    turned = [(0.0, 90.0), (0.0, 180.0), (0.0, 270.0)]
    points = list(quarter)
    for _, angle in turned:
        points += [_turn(point, angle, (0.0, 0.0), 1.0) for point in quarter]
    return points


OUTLINES: dict[str, list[Point]] = {
    "square": _circle_points([45.0, 135.0, 225.0, 315.0], [1.0] * 4),
    "triangle": _circle_points([0.0, 120.0, 240.0], [1.0] * 3),
    "star": _circle_points([36.0 * index for index in range(10)], [1.0, _STAR_DENT] * 5),
    "cross": _cross_points(),
}
"""Corners of the shapes in the unit circle, unturned."""
