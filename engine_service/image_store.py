"""Which images the engine has: their pixels on the host, their features on the device. No tensors."""

from collections import Counter, OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from engine_service.image_ref import ImageRef, overlapping
from engine_service.plan import FeatureRun, ImageWork


@dataclass(slots=True)
class _Slot:
    """A place for one image's features on the device."""

    index: int
    num_pins: int = 0
    is_computed: bool = False


class ImageStore:
    """Images by the SHA-256 of their pixels.

    Pixels stay while a sequence holds the image, and then as long as the budget allows. Features stay
    while a prefill has pinned them, and then until another image needs their slot. Both give way in the
    order of their last use.

    Attributes:
        num_slots: Images whose features fit on the device.
        num_computed: Images whose features have been computed, repetitions included.
    """

    def __init__(self, num_slots: int, num_features: int, first_row: int, max_pixel_bytes: int) -> None:
        """An empty store.

        Args:
            num_slots: Images whose features fit on the device.
            num_features: Features of an image.
            first_row: The row of the model's embedding table that holds the first feature of slot 0.
            max_pixel_bytes: Budget of pixels, those that are held included.
        """
        self.num_slots = num_slots
        self.num_computed = 0
        self._num_features = num_features
        self._first_row = first_row
        self._max_pixel_bytes = max_pixel_bytes
        self._pixels: dict[bytes, bytes] = {}
        self._pixel_bytes = 0
        self._num_holders: Counter[bytes] = Counter()
        self._unheld: OrderedDict[bytes, None] = OrderedDict()
        self._slots: dict[bytes, _Slot] = {}
        self._free_slots = list(range(num_slots - 1, -1, -1))
        self._unpinned: OrderedDict[bytes, None] = OrderedDict()
        self._work: list[ImageWork] = []
        self._used: list[ImageRef] = []
        self._gone: list[bytes] = []

    def has(self, sha256: bytes) -> bool:
        """Whether the image's features are there or can be computed."""
        return sha256 in self._pixels or (sha256 in self._slots and self._slots[sha256].is_computed)

    def has_all(self, images: Collection[ImageRef]) -> bool:
        """Whether the store has each of them."""
        return all(self.has(image.sha256) for image in images)

    def put(self, sha256: bytes, pixels: bytes) -> None:
        """Takes pixels, if they are not there."""
        if sha256 in self._pixels:
            return
        self._pixels[sha256] = pixels
        self._pixel_bytes += len(pixels)
        if sha256 not in self._num_holders:
            self._unheld[sha256] = None
        self._trim()

    def hold(self, images: Collection[ImageRef]) -> None:
        """Keeps the pixels of a sequence's images, those that are still to come too."""
        for image in images:
            self._num_holders[image.sha256] += 1
            self._unheld.pop(image.sha256, None)

    def release(self, images: Collection[ImageRef]) -> None:
        """Takes back a `hold`."""
        for image in images:
            sha256 = image.sha256
            self._num_holders[sha256] -= 1
            if self._num_holders[sha256] == 0:
                del self._num_holders[sha256]
                if sha256 in self._pixels:
                    self._unheld[sha256] = None
        self._trim()

    def pin(self, images: Collection[ImageRef]) -> bool:
        """Gives every image a slot that stays its own until `unpin`; False if there are too few."""
        wanted = dict.fromkeys(image.sha256 for image in images)
        count = sum(sha256 not in self._slots for sha256 in wanted)
        num_reused = sum(sha256 in self._unpinned for sha256 in wanted)
        if count > len(self._free_slots) + len(self._unpinned) - num_reused:
            return False
        for sha256 in wanted:
            self._unpinned.pop(sha256, None)
        for sha256 in wanted:
            if sha256 not in self._slots:
                self._slots[sha256] = _Slot(self._take_slot())
            self._slots[sha256].num_pins += 1
        return True

    def unpin(self, images: Collection[ImageRef]) -> None:
        """Takes back a `pin`."""
        for sha256 in dict.fromkeys(image.sha256 for image in images):
            slot = self._slots[sha256]
            slot.num_pins -= 1
            if slot.num_pins == 0 and slot.is_computed:
                self._unpinned[sha256] = None
            elif slot.num_pins == 0:
                self._drop_slot(sha256)

    def runs(self, images: Collection[ImageRef], start: int, end: int) -> tuple[FeatureRun, ...]:
        """Where features stand for tokens from `start` up to `end`, of pinned images; those that are not
        computed yet become work of the step. Until `take_work` the step has a pin of its own: all its
        work is done before any of its tokens reads a feature.
        """
        return tuple(self._run(image, start, end) for image in overlapping(images, start, end))

    def take_work(self) -> list[ImageWork]:
        """The images to compute for the step that has been planned."""
        work, self._work = self._work, []
        for image in self._used:
            self.unpin([image])
        self._used = []
        return work

    def fail(self, work: Collection[ImageWork]) -> None:
        """Forgets the features of a step that broke."""
        for each in work:
            slot = self._slots.get(each.sha256)
            if slot is None or slot.index != each.slot:
                continue
            slot.is_computed = False
            if slot.num_pins == 0:
                del self._unpinned[each.sha256]
                self._drop_slot(each.sha256)

    def take_gone(self) -> list[bytes]:
        """Images that the store no longer has, since the last call."""
        gone, self._gone = self._gone, []
        return gone

    def check(self) -> None:
        """Asserts that every slot is free or has one image, and that pixels are within their budget."""
        indices = [*self._free_slots, *(slot.index for slot in self._slots.values())]
        assert sorted(indices) == list(range(self.num_slots)), "slots are lost or taken twice"
        unpinned = {sha256 for sha256, slot in self._slots.items() if slot.num_pins == 0}
        assert unpinned == set(self._unpinned), "pins are wrong"
        assert self._pixel_bytes == sum(map(len, self._pixels.values()))
        assert not self._unheld or self._pixel_bytes <= self._max_pixel_bytes
        assert set(self._unheld) == set(self._pixels) - set(self._num_holders)

    def _run(self, image: ImageRef, start: int, end: int) -> FeatureRun:
        slot = self._slots[image.sha256]
        slot.num_pins += 1
        self._used.append(image)
        if not slot.is_computed:
            self._work.append(ImageWork(image.sha256, slot.index, self._pixels[image.sha256]))
            slot.is_computed = True
            self.num_computed += 1
        first, last = max(image.start, start), min(image.end, end)
        row = self._first_row + slot.index * self._num_features + first - image.start
        return FeatureRun(first - start, last - start, row)

    def _take_slot(self) -> int:
        if not self._free_slots:
            self._drop_slot(self._unpinned.popitem(last=False)[0])
        return self._free_slots.pop()

    def _drop_slot(self, sha256: bytes) -> None:
        self._free_slots.append(self._slots.pop(sha256).index)
        if sha256 not in self._pixels:
            self._gone.append(sha256)

    def _trim(self) -> None:
        """Drops pixels beyond the budget that no sequence holds."""
        while self._unheld and self._pixel_bytes > self._max_pixel_bytes:
            sha256, _ = self._unheld.popitem(last=False)
            self._pixel_bytes -= len(self._pixels.pop(sha256))
            if not self.has(sha256):
                self._gone.append(sha256)
