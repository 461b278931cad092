"""Pixels of a step's images through the vision tower, in batches."""

from collections.abc import Callable
from functools import partial

import torch

from engine_service.graphs import GraphPool, Graphs
from engine_service.models.llava import Llava
from engine_service.plan import ImageWork

# Images that go through the tower at once, by graphs on a GPU; other numbers are made up of these.
BATCH_SIZES = (32, 16, 8, 4, 2, 1)


class ImageEncoder:
    """Brings pixels to the device and has their features written to their slots."""

    def __init__(self, model: Llava, device: torch.device, pool: GraphPool | None) -> None:
        """All on `device`; without a pool there are no graphs."""
        self._num_images = len(model.features)
        self._sizes = [size for size in BATCH_SIZES if size <= self._num_images]
        self._model = model
        # What the tower reads, so that a graph finds it. Batches follow each other on one stream.
        shape = (self._sizes[0], model.image_size, model.image_size, 3)
        self._pixels = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._slots = torch.arange(self._sizes[0], device=device)
        self._graphs = Graphs(self._see, pool)

    @property
    def num_images(self) -> int:
        """Images whose features have a place."""
        return self._num_images

    def encode(self, images: list[ImageWork]) -> None:
        """Starts the work; on a GPU returns before it is done."""
        start = 0
        for size in batch_sizes(len(images), self._sizes):
            self._send(images[start : start + size])
            self._graphs.run(size)
            start += size

    def run_largest(self) -> None:
        """Runs the largest batch on nothing: shows its memory."""
        self._see(self._sizes[0])

    def run_all(self) -> None:
        """Runs each size of a batch on nothing."""
        for size in self._sizes:
            self._see(size)

    def captures(self) -> list[Callable[[], None]]:
        """What captures each size of a batch, the largest first; only before there are features."""
        return [partial(self._graphs.capture, size) for size in self._sizes]

    def _see(self, num_images: int) -> None:
        self._model.see(self._pixels[:num_images], self._slots[:num_images])

    def _send(self, batch: list[ImageWork]) -> None:
        pixels = torch.frombuffer(bytearray().join(each.pixels for each in batch), dtype=torch.uint8)
        slots = torch.tensor([each.slot for each in batch])
        for target, values in ((self._pixels, pixels), (self._slots, slots)):
            part = target[: len(batch)]
            values = values.view(part.shape)
            part.copy_(values.pin_memory() if target.is_cuda else values, non_blocking=True)


def batch_sizes(count: int, sizes: list[int]) -> list[int]:
    """The fewest of the descending `sizes`, of which the last is 1 and each divides the one before, that
    make up `count`.
    """
    found = []
    for size in sizes:
        found += [size] * (count // size)
        count %= size
    return found
