"""Commands that wait to be written to the engine."""

import asyncio

from tandem.engine.v1 import engine_pb2
from tokenizer_service.engine_conversion import to_put_image
from tokenizer_service.engine_images import EngineImages
from tokenizer_service.submission import Submission

# Keeps one message of submits at a few hundred kilobytes, so that it does not delay cancels.
_MAX_IDS_PER_MESSAGE = 65_536


class EngineCommands:
    """Everything that waits goes into one message; more gathers while it is written."""

    def __init__(self) -> None:
        self._submits: dict[int, Submission] = {}
        self._cancels: list[int] = []
        self._stops: list[engine_pb2.StopAt] = []
        self._has_some = asyncio.Event()

    def submit(self, submission: Submission) -> None:
        """Starts a sequence."""
        self._submits[submission.sequence.number] = submission
        self._has_some.set()

    def cancel(self, number: int) -> None:
        """Ends a sequence; the engine ignores one that it does not have."""
        if self._submits.pop(number, None) is None:
            self._cancels.append(number)
            self._has_some.set()

    def stop_at(self, number: int, num_tokens: int) -> None:
        """Ends a sequence whose answer keeps this many tokens."""
        self._stops.append(engine_pb2.StopAt(sequence=number, num_tokens=num_tokens))
        self._has_some.set()

    def clear(self) -> None:
        """Drops what waits: the engine that it was meant for is gone."""
        self._submits, self._cancels, self._stops = {}, [], []

    async def next(self, images: EngineImages) -> engine_pb2.SessionRequest:
        """The next message; waits until there is something to say.

        It has at most one image, so that it does not delay cancels either.

        Args:
            images: What the engine was sent; what it lacks goes before the sequences that need it.
        """
        await self._has_some.wait()
        request = engine_pb2.SessionRequest(cancels=self._cancels, stops=self._stops)
        self._cancels, self._stops = [], []
        num_ids = 0
        now_s = asyncio.get_running_loop().time()
        while self._submits and num_ids <= _MAX_IDS_PER_MESSAGE:
            number, submission = next(iter(self._submits.items()))
            if not _add_images(request, submission, images):
                break
            del self._submits[number]
            submission.write_to(request, now_s)
            num_ids += submission.num_ids
        if not self._submits:
            self._has_some.clear()
        return request


def _add_images(request: engine_pb2.SessionRequest, submission: Submission, images: EngineImages) -> bool:
    """Adds an image of the submission if the message has none; whether there are no more to send."""
    image = images.unsent(submission.images)
    if image is not None and not request.images:
        request.images.append(to_put_image(image))
        images.add(image.sha256)
        image = images.unsent(submission.images)
    return image is None
