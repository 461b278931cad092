"""From a picture of any size to the pixels that a vision tower takes, as transformers does it on Pillow."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from tokenizer_service.partial_resize import RunAll, resize_part
from tokenizer_service.pixels import Pixels, hashed_pixels
from tokenizer_service.resampling import FILTERS, resample_rows

# Pixels of an enlarged picture of which a crop keeps a small part; above, only that part is computed.
_MAX_RESIZED_PIXELS = 4 * 1024 * 1024


@dataclass(frozen=True)
class ImageProcessor:
    """The steps of a checkpoint's image processor, in their order. None leaves a step out.

    Attributes:
        background: Pads to a square with this colour.
        shortest_edge: Resizes the shorter side to this, the other in proportion.
        resize_to: Resizes to (height, width).
        resample: Pillow's number of the filter; 3 is bicubic.
        crop: Crops to (height, width) around the centre; what is smaller is padded with black.
    """

    background: tuple[int, int, int] | None = None
    shortest_edge: int | None = None
    resize_to: tuple[int, int] | None = None
    resample: int = 3
    crop: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of every result; None if they differ."""
        if self.crop is not None:
            return self.crop
        if self.background is not None and self.shortest_edge is not None:
            return self.shortest_edge, self.shortest_edge
        return self.resize_to

    def process(self, image: Image.Image, run_all: RunAll = map) -> Pixels:
        """The pixels of an RGB picture; `run_all` may run parts of the work at once."""
        if self.background is not None:
            image = _pad_to_square(image, self.background)
        height, width = self._resized_size(image.height, image.width)
        # What is not enlarged has at most the picture's own pixels, in whichever order Pillow makes them.
        if height > image.height and self._is_mostly_cut(height, width):
            array = self._resize_and_crop_thin(image, height, width)
        else:
            array = self._resize_and_crop(image, height, width, run_all)
        return hashed_pixels(array.shape[0], array.shape[1], array.tobytes())

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        if self.resize_to is not None:
            return self.resize_to
        if self.shortest_edge is None:
            return height, width
        longest_edge = int(self.shortest_edge * max(height, width) / min(height, width))
        if width <= height:
            return longest_edge, self.shortest_edge
        return self.shortest_edge, longest_edge

    def _is_mostly_cut(self, height: int, width: int) -> bool:
        return (
            self.shortest_edge is not None
            and self.crop is not None
            and self.resample in FILTERS
            and height * width > _MAX_RESIZED_PIXELS
            and max(height, width) > 2 * max(self.crop)
        )

    def _resize_and_crop(self, image: Image.Image, height: int, width: int, run_all: RunAll) -> np.ndarray:
        rows, columns = self.crop or (height, width)
        if (height, width) == (image.height, image.width) or rows > height or columns > width:
            resized = image.resize((width, height), resample=Image.Resampling(self.resample))
            return _center_crop(np.asarray(resized), rows, columns)
        corner = (height - rows) // 2, (width - columns) // 2
        return resize_part(image, (height, width), corner, (rows, columns), self.resample, run_all)

    def _resize_and_crop_thin(self, image: Image.Image, height: int, width: int) -> np.ndarray:
        """What `process` does otherwise, without computing what the crop cuts off the longer side.

        The height must not shrink: then Pillow resizes each row first, then each column, and rounds in
        between, as this does. Otherwise Pillow may begin with the columns, from version 12.2 on.
        """
        assert self.crop is not None
        crop_height, crop_width = self.crop
        resample = Image.Resampling(self.resample)
        if width > height:
            columns = np.asarray(image).swapaxes(0, 1)
            first = (width - crop_width) // 2
            columns = resample_rows(columns, width, first, crop_width, self.resample)
            narrow = Image.fromarray(np.ascontiguousarray(columns.swapaxes(0, 1)))
            array = np.asarray(narrow.resize((crop_width, height), resample=resample))
        else:
            narrow = image.resize((width, image.height), resample=resample)
            first = (height - crop_height) // 2
            array = resample_rows(np.asarray(narrow), height, first, crop_height, self.resample)
        return _center_crop(array, crop_height, crop_width)


def _pad_to_square(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.width == image.height:
        return image
    side = max(image.size)
    square = Image.new("RGB", (side, side), background)
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return square


def _center_crop(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """The centre of an array [rows, columns, 3]; black where the array is smaller."""
    rows, columns = array.shape[:2]
    # Where the array is smaller it lies in the middle, half a pixel down or right where that is not whole.
    top, left = (rows - height) // 2, (columns - width) // 2
    if top >= 0 and left >= 0:
        return array[top : top + height, left : left + width]
    canvas = np.zeros((max(height, rows), max(width, columns), 3), np.uint8)
    down, right = -((rows - canvas.shape[0]) // 2), -((columns - canvas.shape[1]) // 2)
    canvas[down : down + rows, right : right + columns] = array
    top, left = top + down, left + right
    return canvas[top : top + height, left : left + width]
