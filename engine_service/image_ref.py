"""Which tokens of a prompt stand for an image."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageRef:
    """A run of placeholder tokens.

    Attributes:
        sha256: Of the image's pixels.
        start: Index of the first placeholder in the prompt.
        length: Number of placeholders, which are the image's features.
    """

    sha256: bytes
    start: int
    length: int

    @property
    def end(self) -> int:
        """Index behind the last placeholder."""
        return self.start + self.length


def overlapping(images: Iterable[ImageRef], start: int, end: int) -> Iterator[ImageRef]:
    """Those of `images` that have placeholders among the tokens from `start` up to `end`."""
    return (image for image in images if image.start < end and image.end > start)


def content_of(images: Iterable[ImageRef], start: int, end: int) -> bytes:
    """What tokens from `start` up to `end` stand for beside their ids: each image among them, and where
    it begins. Empty where there is none.
    """
    parts = (
        image.sha256 + (image.start - start).to_bytes(8, "little", signed=True)
        for image in overlapping(images, start, end)
    )
    return b"".join(parts)
