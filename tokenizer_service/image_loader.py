"""Images of requests to pixels: in threads, each file once, and known ones by their hash."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tandem_service.errors import Violation, invalid, not_found
from tokenizer_service.byte_budget import ByteBudget
from tokenizer_service.image_cache import ImageCache
from tokenizer_service.image_file import ImageBounds, ImageError, open_rgb
from tokenizer_service.image_processor import ImageProcessor
from tokenizer_service.pixels import Pixels
from tokenizer_service.request import Image

# Hashing up to here takes less time (about 0.15 ms) than a thread's wake-up and the way back.
_INLINE_BYTES = 256 * 1024


class ImageLoader:
    """Decodes and resizes; the event loop does neither."""

    def __init__(
        self,
        processor: ImageProcessor,
        bounds: ImageBounds,
        num_threads: int,
        max_cache_bytes: int,
        budget: ByteBudget,
        on_image: Callable[[str], None] = lambda source: None,
    ) -> None:
        """Each thread works on one image; as many others resize parts of images.

        Args:
            processor: Makes the pixels.
            bounds: What a file may be.
            num_threads: How many threads there are; with one nothing is done in parts.
            max_cache_bytes: Pixels of this size stay known.
            budget: Bounds the files that wait and the pixels that anybody holds.
            on_image: Hears of each image whether it was `decoded` or `cached`.
        """
        self._processor = processor
        self._bounds = bounds
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="images")
        # Their own: a thread that waits for parts of its image must not keep these from running.
        self._helpers = ThreadPoolExecutor(num_threads, thread_name_prefix="image-parts")
        self._run_all = self._helpers.map if num_threads > 1 else map
        self._cache = ImageCache(max_cache_bytes)
        self._budget = budget
        self._on_image = on_image
        self._loading: dict[bytes, asyncio.Future[Pixels]] = {}

    async def load(self, images: Sequence[Image]) -> tuple[Pixels, ...]:
        """The pixels of each image.

        Raises:
            InvalidRequestError: Files break a bound or cannot be decoded; all of them are named.
            NotFoundError: A hash is not known.
            OverloadedError: Too many images are held already.
        """
        outcomes = await asyncio.gather(*(self._load(image) for image in images))
        wrong = [each for each in outcomes if isinstance(each, Violation)]
        if wrong:
            raise invalid(*wrong)
        return tuple(each for each in outcomes if isinstance(each, Pixels))

    async def _load(self, image: Image) -> Pixels | Violation:
        if image.sha256 is not None:
            return self._known(image, image.sha256)
        try:
            return await self._from_file(image.data or b"")
        except ImageError as error:
            return Violation(f"{image.field}.data", str(error))

    def _known(self, image: Image, sha256: bytes) -> Pixels:
        pixels = self._cache.get(sha256)
        if pixels is None:
            description = f"{sha256.hex()} is not known to this worker, or no more; send the file's bytes"
            raise not_found(f"{image.field}.sha256", description)
        self._on_image("cached")
        return pixels

    async def _from_file(self, data: bytes) -> Pixels:
        sha256 = await self._hash(data)
        pixels = self._cache.get(sha256)
        if pixels is not None:
            self._on_image("cached")
            return pixels
        loading = self._loading.get(sha256)
        if loading is None:
            self._budget.take(len(data))
            loop = asyncio.get_running_loop()
            loading = self._loading[sha256] = loop.run_in_executor(self._threads, self._process, data)
            loading.add_done_callback(lambda done: self._loaded(sha256, len(data), done))
        else:
            self._on_image("cached")
        # Other requests may wait for the same file: the end of one must not end the loading.
        return await asyncio.shield(loading)

    def _loaded(self, sha256: bytes, num_bytes: int, loading: "asyncio.Future[Pixels]") -> None:
        del self._loading[sha256]
        self._budget.give_back(num_bytes)
        if not loading.cancelled() and loading.exception() is None:
            pixels = loading.result()
            self._budget.count(pixels, len(pixels.data))
            self._cache.put(sha256, pixels)
            self._on_image("decoded")

    async def _hash(self, data: bytes) -> bytes:
        if len(data) > self._bounds.max_bytes:
            # Refused by `process`, which says so; not worth hashing.
            return hashlib.sha256(data[:_INLINE_BYTES]).digest() + len(data).to_bytes(8)
        if len(data) <= _INLINE_BYTES:
            return hashlib.sha256(data).digest()
        return await self._hash_in_a_thread(data)

    async def _hash_in_a_thread(self, data: bytes) -> bytes:
        """Counts the file until a thread is done with it, also where nobody waits for that any more."""
        self._budget.take(len(data))
        hashing = asyncio.get_running_loop().run_in_executor(self._threads, _sha256, data)
        try:
            return await asyncio.shield(hashing)
        finally:
            if hashing.done():
                # At once, so that what comes next can take them before anybody else.
                self._budget.give_back(len(data))
            else:
                hashing.add_done_callback(lambda done: self._budget.give_back(len(data)))

    def _process(self, data: bytes) -> Pixels:
        return self._processor.process(open_rgb(data, self._bounds), self._run_all)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
