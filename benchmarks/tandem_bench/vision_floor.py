"""The least time that pictures take: the operations of tower and projector, and the weights they read."""

import math
from dataclasses import dataclass

from tandem_bench.ceilings import Ceilings
from tandem_bench.llava_shape import LlavaShape


@dataclass(frozen=True)
class VisionFloor:
    """The model of one shape's tower and projector on one device, made as `Floor` is.

    Attributes:
        element_bytes: Of weights.
    """

    shape: LlavaShape
    ceilings: Ceilings
    element_bytes: int

    @property
    def operations(self) -> int:
        """Of one image: its patches, the layers that run with the class token, then the projector."""
        tower, patches = self.shape.tower, self.shape.tower.num_patches
        size, places = tower.hidden_size, tower.num_patches + 1
        embedding = 2 * patches * size * 3 * tower.patch_size**2
        linear = 2 * places * (4 * size**2 + 2 * size * tower.intermediate_size)
        attention = 4 * places**2 * size
        projector = 2 * patches * (size + self.shape.hidden_size) * self.shape.hidden_size
        return embedding + self.shape.num_tower_layers * (linear + attention) + projector

    @property
    def weight_bytes(self) -> int:
        """Read once for each batch; little more than what runs."""
        sizes = self.shape.tensors()
        names = [name for name in sizes if not name.startswith("language_model.")]
        return self.element_bytes * sum(math.prod(sizes[name]) for name in names)

    def see_s(self, num_images: int) -> float:
        """A batch of images, from pixels on the device to features."""
        return max(
            self.weight_bytes / self.ceilings.read_bytes_per_s,
            num_images * self.operations / self.ceilings.matmul_flop_per_s,
        )
