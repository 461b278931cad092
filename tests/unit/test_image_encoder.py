"""Which batches a step's images go through the tower in, and where their features end up."""

import pytest
import torch

from engine_service.image_encoder import BATCH_SIZES, ImageEncoder, batch_sizes
from engine_service.plan import ImageWork

SIZE = 2


class Model:
    """Stands for Llava: an image's feature is its first value."""

    image_size = SIZE

    def __init__(self, num_images):
        self.features = torch.full((num_images,), -1)
        self.batches = []

    def see(self, pixels, slots):
        self.batches.append(len(pixels))
        self.features[slots] = pixels[:, 0, 0, 0].long()


@pytest.mark.parametrize("count", range(70))
def test_batches_make_up_any_number_of_images(count):
    sizes = batch_sizes(count, list(BATCH_SIZES))
    assert sum(sizes) == count
    assert sizes == sorted(sizes, reverse=True)
    assert all(sizes.count(size) <= 1 for size in BATCH_SIZES[1:])


@pytest.mark.parametrize(
    ("count", "batches"),
    [
        pytest.param(0, [], id="none"),
        pytest.param(1, [1], id="one"),
        pytest.param(7, [4, 2, 1], id="seven"),
        pytest.param(32, [32], id="largest"),
        pytest.param(65, [32, 32, 1], id="one-past-two-of-the-largest"),
    ],
)
def test_every_image_s_features_go_to_its_slot(count, batches):
    model = Model(80)
    encoder = ImageEncoder(model, torch.device("cpu"), None)
    slots = torch.randperm(80, generator=torch.Generator().manual_seed(count))[:count].tolist()
    encoder.encode(
        [ImageWork(bytes([n]), slot, bytes([n] * SIZE * SIZE * 3)) for n, slot in enumerate(slots)]
    )
    assert model.batches == batches
    assert [model.features[slot].item() for slot in slots] == list(range(count))
    assert (model.features == -1).sum() == 80 - count


def test_no_batch_is_larger_than_the_cache():
    model = Model(5)
    encoder = ImageEncoder(model, torch.device("cpu"), None)
    encoder.run_largest()
    assert model.batches == [4]
