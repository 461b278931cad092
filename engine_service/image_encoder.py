"""Pixels of a step's images through the vision tower, in batches."""

import torch

from engine_service.models.llava import Llava
from engine_service.plan import ImageWork

# Images that go through the tower at once.
MAX_BATCH = 32


class ImageEncoder:
    """Brings pixels to the device and has their features written to their slots."""

    def __init__(self, model: Llava, device: torch.device) -> None:
        """All on `device`."""
        self._model = model
        self._device = device

    @property
    def num_images(self) -> int:
        """Images whose features have a place."""
        return len(self._model.features)

    def encode(self, images: list[ImageWork]) -> None:
        """Starts the work; on a GPU returns before it is done."""
        for start in range(0, len(images), MAX_BATCH):
            batch = images[start : start + MAX_BATCH]
            slots = torch.tensor([image.slot for image in batch])
            self._model.see(self._to_device(self._pixels(batch)), self._to_device(slots))

    def run_largest(self) -> None:
        """Runs the largest batch on nothing: shows its memory."""
        size = self._model.image_size
        count = min(MAX_BATCH, self.num_images)
        pixels = torch.zeros(count, size, size, 3, dtype=torch.uint8, device=self._device)
        self._model.see(pixels, torch.arange(count, device=self._device))

    def _pixels(self, batch: list[ImageWork]) -> torch.Tensor:  # [num_images, image_size, image_size, 3]
        size = self._model.image_size
        joined = bytearray().join(image.pixels for image in batch)
        return torch.frombuffer(joined, dtype=torch.uint8).view(len(batch), size, size, 3)

    def _to_device(self, values: torch.Tensor) -> torch.Tensor:
        if self._device.type == "cuda":
            values = values.pin_memory()
        return values.to(self._device, non_blocking=True)
