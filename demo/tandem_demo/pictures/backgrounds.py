"""Backgrounds and noise, with numpy."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from tandem_demo.pictures.scene import Background

Pixels = npt.NDArray[np.uint8]  # [side, side, 3]
_NUM_BLOTCHES = 5
_NUM_STRIPES = 6


def paint(background: Background, side: int, rng: np.random.Generator) -> Pixels:
    """The pixels of a background that is not plain; `rng` places the blotches."""
    first = np.array(background.first, dtype=np.float32)
    second = np.array(background.second, dtype=np.float32)
    share = _share(background, side, rng)[:, :, None]
    return np.round(first + (second - first) * share).astype(np.uint8)


def _share(background: Background, side: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """How much of the second tint each pixel has, [side, side], 0 to 1."""
    if background.style == "blotches":
        coarse = rng.random((_NUM_BLOTCHES, _NUM_BLOTCHES), dtype=np.float32)
        fine = Image.fromarray(coarse).resize((side, side), Image.Resampling.BILINEAR)
        return np.array(fine, dtype=np.float32)
    along = _along(background.angle, side)
    if background.style == "gradient":
        return along
    waves = np.sin(along * np.float32(2 * math.pi * _NUM_STRIPES))
    return np.asarray(0.5 + 0.5 * waves, dtype=np.float32)


def _along(angle: float, side: int) -> npt.NDArray[np.float32]:
    """Each pixel's place on a line in the direction of `angle`, [side, side], 0 to 1."""
    steps = np.linspace(-0.5, 0.5, side, dtype=np.float32)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    line = steps[None, :] * cos + steps[:, None] * sin
    return (line / (abs(cos) + abs(sin)) + 0.5).astype(np.float32)


def add_noise(pixels: Pixels, noise: float, rng: np.random.Generator) -> Pixels:
    """Normal noise of standard deviation `noise` on every channel."""
    grain = rng.standard_normal(pixels.shape, dtype=np.float32)
    return np.clip(pixels + noise * grain, 0, 255).astype(np.uint8)
