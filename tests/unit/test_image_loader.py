"""Images of requests to pixels: each file once, whoever waits for it, within a bound of memory."""

import asyncio
import contextlib
import gc
import hashlib
import io
import threading

import pytest
from PIL import Image as Picture

from tandem_service.errors import InvalidRequestError, OverloadedError
from tokenizer_service.byte_budget import ByteBudget
from tokenizer_service.image_cache import ImageCache
from tokenizer_service.image_file import ImageBounds
from tokenizer_service.image_loader import ImageLoader
from tokenizer_service.image_processor import ImageProcessor
from tokenizer_service.pixels import Pixels
from tokenizer_service.request import Image

PIXEL_BYTES = 8 * 8 * 3


class CountingProcessor(ImageProcessor):
    calls = 0

    def process(self, image, run_all=map):
        CountingProcessor.calls += 1
        return super().process(image, run_all)


def loader(max_cache_bytes=10**6, max_bytes=10**6, on_image=lambda source: None):
    CountingProcessor.calls = 0
    processor = CountingProcessor(shortest_edge=8, crop=(8, 8))
    bounds = ImageBounds(max_bytes=10**5, max_pixels=10**6, max_side=10**4)
    return ImageLoader(processor, bounds, 2, max_cache_bytes, ByteBudget(max_bytes, "bound"), on_image)


def file(shade, size=300):
    data = io.BytesIO()
    Picture.new("L", (size, size), shade).save(data, "BMP")
    return data.getvalue()


def test_a_file_is_processed_once_for_all_who_wait():
    async def main():
        one = loader()
        # Above the size that is hashed at once, so that hashing takes a thread too.
        images = [Image(f"images[{i}]", data=file(7)) for i in range(8)]
        found = await asyncio.gather(*(one.load(images) for _ in range(4)))
        return [pixels.sha256 for each in found for pixels in each]

    hashes = asyncio.run(main())
    assert len(hashes) == 32
    assert len(set(hashes)) == 1
    assert CountingProcessor.calls == 1


def test_each_image_of_a_request_is_told_with_where_it_came_from():
    async def main():
        sources = []
        one = loader(on_image=sources.append)
        image = Image("images[0]", data=file(7))
        await asyncio.gather(one.load([image]), one.load([image]))
        await one.load([image])
        await one.load([Image("images[0]", sha256=hashlib.sha256(file(7)).digest())])
        with pytest.raises(InvalidRequestError):
            await one.load([Image("images[0]", data=b"no picture")])
        return sources

    assert sorted(asyncio.run(main())) == ["cached", "cached", "cached", "decoded"]


def test_the_end_of_one_waiter_is_not_the_end_of_the_loading():
    async def main():
        one = loader()
        image = [Image("images[0]", data=file(7))]
        first = asyncio.create_task(one.load(image))
        second = asyncio.create_task(one.load(image))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert len(asyncio.run(main())) == 1


def test_a_file_that_fails_fails_for_all_and_is_tried_again():
    async def main():
        one = loader()
        image = [Image("images[0]", data=file(7)[:90])]
        failures = await asyncio.gather(*(one.load(image) for _ in range(3)), return_exceptions=True)
        with pytest.raises(InvalidRequestError):
            await one.load(image)
        return failures

    assert [type(each) for each in asyncio.run(main())] == [InvalidRequestError] * 3


async def _load_patiently(one, shade):
    """A thread holds what it has just made for a moment longer."""
    for _ in range(20):
        gc.collect()
        with contextlib.suppress(OverloadedError):
            return await one.load([Image("images[0]", data=file(shade, 20))])
        await asyncio.sleep(0.01)
    return await one.load([Image("images[0]", data=file(shade, 20))])


def test_memory_is_bounded_and_comes_back():
    async def main():
        one = loader(max_cache_bytes=0, max_bytes=len(file(7, 20)) + PIXEL_BYTES)
        for shade in range(5):
            await _load_patiently(one, shade)
        held = await _load_patiently(one, 7)
        other = await _load_patiently(one, 8)
        with pytest.raises(OverloadedError, match="bound="):
            await _load_patiently(one, 9)
        del held, other
        return await _load_patiently(one, 9)

    assert len(asyncio.run(main())) == 1


def test_files_that_wait_for_their_hash_count_also_when_nobody_waits_for_them():
    may_go_on = threading.Event()

    class Blocked(CountingProcessor):
        def process(self, image, run_all=map):
            may_go_on.wait()
            return super().process(image, run_all)

    async def refused(one):
        async with asyncio.timeout(30):
            with pytest.raises(OverloadedError, match="bound="):
                await one.load([Image("images[0]", data=file(3, 600))])

    async def main():
        small, large = file(1, 20), file(2, 600)
        bounds = ImageBounds(max_bytes=10**6, max_pixels=10**6, max_side=10**4)
        budget = ByteBudget(len(small) + len(large) + 2 * PIXEL_BYTES, "bound")
        one = ImageLoader(Blocked(shortest_edge=8, crop=(8, 8)), bounds, 1, 0, budget)
        # The only thread is busy, so that the large file waits for its hash.
        busy = asyncio.create_task(one.load([Image("images[0]", data=small)]))
        waiting = asyncio.create_task(one.load([Image("images[0]", data=large)]))
        await asyncio.sleep(0)  # both come before what follows
        await refused(one)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await refused(one)
        may_go_on.set()
        await busy
        # Behind the file that nobody waits for.
        await asyncio.wrap_future(one._threads.submit(lambda: None))
        return await one.load([Image("images[0]", data=large)])

    try:
        assert len(asyncio.run(main())) == 1
    finally:
        may_go_on.set()


def test_the_cache_keeps_what_was_used_last():
    cache = ImageCache(30)
    pixels = [Pixels(bytes([i]) * 32, 1, 1, bytes(10)) for i in range(4)]
    for each in pixels[:3]:
        cache.put(each.sha256, each)
    assert cache.get(pixels[0].sha256) is pixels[0]
    cache.put(pixels[3].sha256, pixels[3])
    assert [cache.get(each.sha256) for each in pixels] == [pixels[0], None, pixels[2], pixels[3]]
    cache.put(b"large", Pixels(b"large", 1, 1, bytes(31)))
    assert [cache.get(each.sha256) for each in pixels] == [None] * 4
