"""The time of the vision tower and the projector in the engine, by its graphs where it has graphs."""

import statistics
import time
from collections.abc import Iterator

import torch

from engine_service.image_encoder import ImageEncoder
from engine_service.loading import load_runner
from engine_service.model_config import read_model_config
from engine_service.plan import ImageWork
from tandem_bench.bench import Bench
from tandem_bench.gpu_memory import free_gpu_memory
from tandem_bench.llava_shape import LlavaShape, seeing
from tandem_bench.measurement import Measurement, rounded
from tandem_bench.timing import seconds
from tandem_bench.vision_floor import VisionFloor

BATCHES = (1, 32)
REPLAYS = 20


def vision_tower(bench: Bench) -> Iterator[Measurement]:
    """Milliseconds from pixels on the device to features."""
    shape = seeing(bench.settings.shape)
    bench.close_engine()
    encoder = _encoder(bench)
    for num_images in BATCHES:
        yield _measure(bench, shape, encoder, num_images)
    del encoder
    free_gpu_memory()


def _encoder(bench: Bench) -> ImageEncoder:
    """The engine's, with as little else as there can be."""
    directory = bench.checkpoint
    flags = {"max_num_seqs": 1, "max_prefill_tokens": 16, "num_blocks": 16}
    config = bench.settings.engine_config(directory, **flags)
    images = load_runner(config, read_model_config(directory), directory, 0)._images
    assert images is not None
    return images


def _measure(bench: Bench, shape: LlavaShape, encoder: ImageEncoder, num_images: int) -> Measurement:
    is_gpu = bench.settings.device.startswith("cuda")
    with_pixels_ms = []

    @torch.inference_mode()
    def once(seed: str) -> float:
        work = _images(num_images, shape.tower.image_size)
        start_s = time.perf_counter()
        encoder.encode(work)
        if is_gpu:
            torch.cuda.synchronize()
        with_pixels_ms.append((time.perf_counter() - start_s) * 1e3)
        replays = [seconds(lambda: encoder._graphs.run(num_images), is_gpu=is_gpu) for _ in range(REPLAYS)]
        return statistics.median(replays) * 1e3

    name = f"vision-tower-{num_images}"
    runs = bench.repeated(name, once, "ms")
    floor = VisionFloor(shape, bench.ceilings, bench.settings.torch_dtype.itemsize)
    rate = num_images * floor.operations / (statistics.median(runs) / 1e3)
    details = {
        "tflop_per_image": rounded(floor.operations / 1e12),
        "tflop_per_s": rounded(rate / 1e12),
        "percent_of_matmul_ceiling": rounded(100 * rate / bench.ceilings.matmul_flop_per_s),
        "with_pixels_from_the_host_ms": [rounded(each) for each in with_pixels_ms[1:]],
    }
    return Measurement(name, "ms", runs, floor.see_s(num_images) * 1e3, details=details)


def _images(count: int, side: int) -> list[ImageWork]:
    pixels = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8)
    return [ImageWork(b"", slot, each.numpy().tobytes()) for slot, each in enumerate(pixels)]
