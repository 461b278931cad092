"""One request from its start until nobody wants it any more."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

from tandem_service.errors import RequestCancelledError, ServiceError
from tokenizer_service import intake
from tokenizer_service.generation import Generation
from tokenizer_service.metering import Meter
from tokenizer_service.model import Model
from tokenizer_service.request import Request


class RunningRequest:
    """Runs a request for any number of readers, and lingers without one for as long as they asked.

    Attributes:
        body_sha256: Tells its body from others.
        failure: Why it ended for all readers, or None.
    """

    def __init__(
        self,
        request: Request,
        model: Model,
        deadline_s: float | None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Starts the request.

        Args:
            request: As it was sent.
            model: What answers it.
            deadline_s: When the call ends that starts it, on the loop's clock; None if that does not matter.
            on_end: Called once, when nobody can read it any more.

        Raises:
            OverloadedError: A quota of the caller's is used up.
        """
        self._meter = Meter()
        self.body_sha256 = request.body_sha256
        self.failure: ServiceError | None = None
        self._on_end = on_end
        self._readers: set[asyncio.Event] = set()
        self._linger_s = 0.0
        self._lingering: asyncio.TimerHandle | None = None
        self._is_over = False
        self._generation: Generation | None = None
        self._has_mail = False
        # A task of its own, which outlives the reader that came first.
        self._starting = asyncio.create_task(self._start(request, model, deadline_s))

    def linger(self, linger_s: float) -> None:
        """Asks the request to stay for some seconds without a reader; the longest time counts."""
        self._linger_s = max(self._linger_s, linger_s)

    @contextlib.contextmanager
    def read_by(self, has_mail: asyncio.Event) -> Iterator[None]:
        """Counts a reader, who is woken by `has_mail` when there may be something new."""
        if self._lingering is not None:
            self._lingering.cancel()
        self._readers.add(has_mail)
        try:
            yield
        finally:
            self._readers.remove(has_mail)
            if not self._readers:
                self._be_alone()

    async def generation(self) -> Generation:
        """Its answers, once it has been submitted.

        Raises:
            ServiceError: It could not be.
        """
        await asyncio.shield(self._starting)
        if self._generation is None:
            assert self.failure is not None
            raise self.failure
        return self._generation

    def advance(self) -> None:
        """Takes in what has arrived."""
        if self._generation is None or self._is_over:
            return
        try:
            self._generation.advance()
        except ServiceError as error:
            self._end(error)
        else:
            # Whole answers that are kept run no more; their number is bounded by `max_lingering`.
            if self._generation.is_finished and not self._readers:
                self._meter.free_place()

    def cancel(self) -> None:
        """Ends the request for all its readers, also one that would linger."""
        self._end(RequestCancelledError("the client cancelled the request"))

    def close(self) -> None:
        """Ends a request that has no reader."""
        self._starting.cancel()
        self._end(None)

    async def _start(self, request: Request, model: Model, deadline_s: float | None) -> None:
        try:
            self._generation = await intake.start(request, model, deadline_s, self._on_mail)
        except ServiceError as error:
            self._end(error)
        else:
            if self._is_over:
                self._generation.close()

    def _on_mail(self) -> None:
        for has_mail in self._readers:
            has_mail.set()
        # Once for all answers that have mail, and only where somebody counts or nobody reads.
        if not self._has_mail and (self._meter.is_asked or not self._readers):
            self._has_mail = True
            asyncio.get_running_loop().call_soon(self._take_mail)

    def _take_mail(self) -> None:
        self._has_mail = False
        self._count_tokens()
        if not self._readers:
            # Stop strings are to be found also while nobody reads.
            self.advance()

    def _count_tokens(self) -> None:
        if self._generation is not None:
            self._meter.count(self._generation.num_made)

    def _be_alone(self) -> None:
        """The last reader has left."""
        if self._is_over:
            return
        if self._linger_s > 0:
            self._lingering = asyncio.get_running_loop().call_later(self._linger_s, self.close)
            self.advance()  # what that reader was woken for and did not take
        else:
            self.close()

    def _end(self, failure: ServiceError | None) -> None:
        if self._is_over:
            return
        self._is_over = True
        self.failure = failure
        if self._lingering is not None:
            self._lingering.cancel()
        self._count_tokens()
        self._meter.free_place()
        if self._generation is not None:
            self._generation.close()
        self._on_end()
        for has_mail in self._readers:
            has_mail.set()
