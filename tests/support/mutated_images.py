"""Image files that are wrong in all sorts of ways."""

import io
import random
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image


def seeds() -> list[bytes]:
    """Small files of every format and of many modes."""
    generator = np.random.default_rng(1)
    rgba = Image.fromarray(generator.integers(0, 256, (40, 52, 4), np.uint8))
    # Smooth, so that lossy formats have something to leave out.
    rgb = rgba.convert("RGB").resize((9, 7)).resize((52, 40))
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    exif = Image.Exif()
    exif[0x0112] = 6
    made: list[tuple[Image.Image, str, dict[str, object]]] = [
        (rgb, "PNG", {}),
        (rgba, "PNG", {}),
        (rgb.quantize(16), "PNG", {"transparency": 2}),
        (Image.fromarray(generator.integers(0, 65536, (40, 52), np.uint16)), "PNG", {}),
        (rgb, "PNG", frames),
        (rgb, "JPEG", {"exif": exif}),
        (rgb, "JPEG", {"progressive": True}),
        (rgb.convert("CMYK"), "JPEG", {}),
        (rgb, "WEBP", {"exif": exif}),
        (rgba, "WEBP", {"lossless": True}),
        (rgb, "WEBP", frames),
        (rgb, "GIF", {}),
        (rgb, "GIF", frames),
        (rgb, "BMP", {}),
        (rgb.quantize(16), "BMP", {}),
        (rgb.convert("1"), "BMP", {}),
    ]
    return [_encoded(image, kind, options) for image, kind, options in made]


def mutated(count: int, seed: int) -> Iterator[bytes]:
    """Files with a few changes each; some stay decodable."""
    rng = random.Random(seed)
    files = seeds()
    for _ in range(count):
        data = bytearray(rng.choice(files))
        for _ in range(rng.choice([1, 1, 1, 2, 5, 20])):
            rng.choice(_MUTATIONS)(data, rng)
        yield bytes(data)


def _flip(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _flip_in_the_head(data: bytearray, rng: random.Random) -> None:
    if data:
        data[rng.randrange(min(len(data), 64))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])


def _cut(data: bytearray, rng: random.Random) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _drop(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    del data[start : start + rng.randrange(64)]


def _repeat(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = data[start : start + rng.randrange(256)]


def _insert(data: bytearray, rng: random.Random) -> None:
    start = rng.randrange(len(data) + 1)
    data[start:start] = rng.randbytes(rng.randrange(32))


def _resize_png(data: bytearray, rng: random.Random) -> None:
    """Another size in the header, with a checksum that is right."""
    if data.startswith(b"\x89PNG") and len(data) > 33:
        for place in (16, 20):
            data[place : place + 4] = rng.choice([0, 1, 53, 4000, 2**15, 2**31 - 1]).to_bytes(4)
        data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4)


_MUTATIONS = [_flip, _flip_in_the_head, _cut, _drop, _repeat, _insert, _resize_png]


def _encoded(image: Image.Image, kind: str, options: dict[str, object]) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
