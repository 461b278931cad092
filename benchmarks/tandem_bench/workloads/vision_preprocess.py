"""How fast files become pixels in the tokenizer service."""

import asyncio
import time
from collections.abc import Iterator, Sequence

from tandem_bench.bench import Bench
from tandem_bench.llava_shape import seeing
from tandem_bench.measurement import Measurement
from tandem_bench.pictures import HEIGHT, WIDTH, noise_jpegs
from tokenizer_service.config import TokenizerServiceConfig
from tokenizer_service.image_loader import ImageLoader
from tokenizer_service.request import Image
from tokenizer_service.service import load_vision
from tokenizer_service.tokenizer import load_tokenizer

NUM_FILES = 64


def vision_preprocess(bench: Bench) -> Iterator[Measurement]:
    """Images per second of one core: hashed, decoded, resized and cropped, one after another."""
    seeing(bench.settings.shape)
    directory = bench.checkpoint
    config = TokenizerServiceConfig(image_threads=1)
    vision = load_vision(directory, load_tokenizer(directory, 1), config, lambda source: None)
    assert vision is not None
    loader = vision.loader
    num_bytes: list[int] = []

    def once(seed: str) -> float:
        files = noise_jpegs(max(2, NUM_FILES // bench.settings.shrink), seed)
        num_bytes.append(sum(map(len, files)) // len(files))
        # Whatever else the machine does has no part in it.
        start_s = time.process_time()
        asyncio.run(_load(loader, files))
        return len(files) / (time.process_time() - start_s)

    runs = bench.repeated("vision-preprocess", once, "images/s")
    details = {"width": WIDTH, "height": HEIGHT, "bytes_per_file": num_bytes[1:]}
    yield Measurement("vision-preprocess", "images/s", runs, is_rate=True, details=details)


async def _load(loader: ImageLoader, files: Sequence[bytes]) -> None:
    for file in files:
        await loader.load([Image("images[0]", data=file)])
