"""Preprocessed images by the hash of their files."""

from collections import OrderedDict

from tokenizer_service.pixels import Pixels


class ImageCache:
    """Keeps the images that were used last, within a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        """`max_bytes` bounds the pixels; 0 keeps nothing."""
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._images: OrderedDict[bytes, Pixels] = OrderedDict()

    def get(self, sha256: bytes) -> Pixels | None:
        """The image whose file has this hash, or None."""
        pixels = self._images.get(sha256)
        if pixels is not None:
            self._images.move_to_end(sha256)
        return pixels

    def put(self, sha256: bytes, pixels: Pixels) -> None:
        """Keeps an image; those that were not used for longest make room."""
        if sha256 in self._images:
            return
        self._images[sha256] = pixels
        self._num_bytes += len(pixels.data)
        while self._num_bytes > self._max_bytes:
            _, dropped = self._images.popitem(last=False)
            self._num_bytes -= len(dropped.data)
