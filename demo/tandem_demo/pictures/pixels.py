"""From a picture to the pixels that the model sees, and what happens to pictures on the way."""

import io
from random import Random

import numpy as np
from PIL import Image

from tandem_demo.pictures.backgrounds import Pixels

IMAGE_SIDE = 96
SIDES = (96, 96, 96, 112, 128, 144, 160, 192)
"""Sides that pictures are drawn at, before they are resized to `IMAGE_SIDE`."""
JPEG_SHARE = 0.3


def to_pixels(picture: Image.Image) -> Pixels:
    """A square picture as CLIP's image processor resizes it."""
    if picture.size != (IMAGE_SIDE, IMAGE_SIDE):
        picture = picture.resize((IMAGE_SIDE, IMAGE_SIDE), Image.Resampling.BICUBIC)
    return np.asarray(picture.convert("RGB"))


def encode(picture: Image.Image, file_format: str, quality: int = 85) -> bytes:
    """The bytes of a `PNG` or `JPEG` file."""
    buffer = io.BytesIO()
    picture.save(buffer, file_format, quality=quality)
    return buffer.getvalue()


def worn(picture: Image.Image, rng: Random) -> Image.Image:
    """The picture, in `JPEG_SHARE` of the cases after a trip through a JPEG file."""
    if rng.random() >= JPEG_SHARE:
        return picture
    return Image.open(io.BytesIO(encode(picture, "JPEG", rng.randint(50, 95)))).convert("RGB")
