"""Image files to RGB pictures, within bounds that hold before anything is decoded."""

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from PIL import Image

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
# What Pillow's decoders raise on files that lie about themselves.
_FAULTS = (
    OSError,
    SyntaxError,
    ValueError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    BufferError,
    EOFError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    struct.error,
    zlib.error,
)
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WHITE = (255, 255, 255, 255)

# A scan of a progressive file may be twenty bytes and go over the whole picture; real ones have about ten.
_MAX_SCANS = 100
_SCAN = b"\xff\xda"
_JPEG = b"\xff\xd8"

# The bounds here are lower, are checked before decoding, and name their numbers.
Image.MAX_IMAGE_PIXELS = None


class ImageError(ValueError):
    """A file is no image that is taken; the message is for the client."""


@dataclass(frozen=True)
class ImageBounds:
    """What one image file may be.

    Attributes:
        max_bytes: Bytes of the file.
        max_pixels: Width times height.
        max_side: Width, and height.
    """

    max_bytes: int
    max_pixels: int
    max_side: int


def open_rgb(data: bytes, bounds: ImageBounds) -> Image.Image:
    """The picture in a file, the right way up; the first one where there are several.

    Transparency shows white, as transformers has it. 16 bits become 8 by dropping the lower ones, for grey
    as for colour; transformers makes all grey above 255 of 65535 white instead.

    Raises:
        ImageError: The file breaks a bound, is truncated, or is no image.
    """
    if not data:
        raise ImageError("is empty")
    if len(data) > bounds.max_bytes:
        raise ImageError(f"has {len(data)} bytes; at most {bounds.max_bytes}")
    try:
        image = Image.open(BytesIO(data), formats=_FORMATS)
    except _FAULTS:
        raise ImageError(f"{len(data)} bytes are no PNG, JPEG, WebP, GIF or BMP file") from None
    with image:
        _check_size(image, bounds)
        if data.startswith(_JPEG) and (num_scans := data.count(_SCAN)) > _MAX_SCANS:
            raise ImageError(f"has {num_scans} scans; at most {_MAX_SCANS}")
        try:
            image.load()
            return _to_rgb(_upright(image))
        except _FAULTS as error:
            reason = str(error) or type(error).__name__
            raise ImageError(f"the {image.format} file is truncated or damaged: {reason}") from None


def _check_size(image: Image.Image, bounds: ImageBounds) -> None:
    width, height = image.size
    if min(width, height) < 1:
        raise ImageError(f"is {width} x {height} pixels")
    if max(width, height) > bounds.max_side:
        raise ImageError(f"is {width} x {height} pixels; no side may be longer than {bounds.max_side}")
    if width * height > bounds.max_pixels:
        raise ImageError(f"is {width} x {height} = {width * height} pixels; at most {bounds.max_pixels}")


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF data says; data that cannot be read says nothing."""
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except _FAULTS:
        return image
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and image.info.get("transparency") is None:
        return image
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(values.clip(0, 255).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image).convert("RGB")
    return image.convert("RGB")
