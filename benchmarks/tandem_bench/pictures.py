"""Pictures for runs through the services: each another one, as files."""

import io
import random

from PIL import Image

WIDTH, HEIGHT = 640, 480


def noise_jpegs(count: int, seed: str) -> list[bytes]:
    """JPEG files of nothing but noise, which take a decoder longer than photographs do."""
    source = random.Random(seed)
    return [_jpeg(source.randbytes(WIDTH * HEIGHT * 3)) for _ in range(count)]


def _jpeg(values: bytes) -> bytes:
    file = io.BytesIO()
    Image.frombytes("RGB", (WIDTH, HEIGHT), values).save(file, "JPEG")
    return file.getvalue()
