"""An engine whose answers a test writes: `tandem.engine.v1.Engine` without a model."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc

from tandem.engine.v1 import engine_pb2, engine_pb2_grpc
from tandem.v1 import common_pb2

CONTEXT_LENGTH = 256

LENGTH = common_pb2.FINISH_REASON_LENGTH
EOS = common_pb2.FINISH_REASON_EOS
STOP_TOKEN = common_pb2.FINISH_REASON_STOP_TOKEN

Script = Callable[["EngineLink", engine_pb2.Submit], Awaitable[None]]


class EngineLink:
    """One session, as a script sees it.

    Attributes:
        commands: Every message of the client after its hello.
        cancels: The sequences that were cancelled.
        stops: (sequence, tokens to keep) of each StopAt.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._turn = asyncio.Lock()
        self.commands: list[engine_pb2.SessionRequest] = []
        self.cancels: list[int] = []
        self.stops: list[tuple[int, int]] = []
        self.changed = asyncio.Event()

    async def step(
        self,
        sequence: int,
        tokens: Sequence[int] = (),
        *,
        starts: bool = False,
        finish: "common_pb2.FinishReason | None" = None,
        **columns: Any,
    ) -> None:
        """One step with tokens of one sequence, its start or its end."""
        step = engine_pb2.Step(sequences=[sequence] * len(tokens), tokens=tokens, **columns)
        if starts:
            step.started_sequences.append(sequence)
            step.started_cached_tokens.append(2)
            step.started_queue_us.append(3000)
            step.started_prefill_us.append(4000)
        if finish is not None:
            step.finished_sequences.append(sequence)
            step.finished_reasons.append(finish)
        await self.send(engine_pb2.SessionResponse(step=step))

    async def send(self, frame: engine_pb2.SessionResponse) -> None:
        """Any frame; scripts of several sequences take turns."""
        async with self._turn:
            await self._context.write(frame)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for commands of the client."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()


class ScriptedEngine(engine_pb2_grpc.EngineServicer):
    """Runs `script` for each submitted sequence.

    Attributes:
        links: The sessions so far.
        images: The images that came by a session or were put.
        num_puts: How often PutImage was called.
        image_failures: With what the next puts fail; until then sessions' images are not taken.
        has_vision: Whether the engine says that it takes images.
        model: The name of what it says that it runs.
        refusal: Why sessions are refused with FAILED_PRECONDITION, or None.
    """

    def __init__(self, script: Script, vocab_size: int) -> None:
        self.script = script
        self.links: list[EngineLink] = []
        self.model = "scripted"
        self.refusal: str | None = None
        self.hellos: list[engine_pb2.ClientHello] = []
        self.images: list[engine_pb2.PutImageRequest] = []
        self.num_puts = 0
        self.image_failures: list[grpc.StatusCode] = []
        self.has_vision = False
        self._image_came = asyncio.Event()
        self._vocab_size = vocab_size

    async def Session(self, requests: AsyncIterator[Any], context: Any) -> None:  # type: ignore[override]  # noqa: N802
        hello = await anext(requests)
        self.hellos.append(hello.hello)
        if self.refusal:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, self.refusal)
        link = EngineLink(context)
        self.links.append(link)
        await context.write(engine_pb2.SessionResponse(hello=self._hello()))
        async with asyncio.TaskGroup() as tasks:
            async for request in requests:
                link.commands.append(request)
                link.cancels += request.cancels
                link.stops += [(stop.sequence, stop.num_tokens) for stop in request.stops]
                link.changed.set()
                await self._take(request.images, link)
                for submit in request.submits:
                    tasks.create_task(self.script(link, submit))

    async def _take(self, images: Sequence[engine_pb2.PutImageRequest], link: EngineLink) -> None:
        """Takes images of a session; asks for them where puts are to fail."""
        for image in images:
            if self.image_failures:
                need = engine_pb2.NeedImage(sha256=image.sha256)
                await link.send(engine_pb2.SessionResponse(need_image=need))
            else:
                self.images.append(image)
        self._image_came.set()

    async def PutImage(  # type: ignore[override]  # noqa: N802
        self, request: engine_pb2.PutImageRequest, context: Any
    ) -> engine_pb2.PutImageResponse:
        self.num_puts += 1
        failure = self.image_failures.pop(0) if self.image_failures else None
        if failure is None:
            self.images.append(request)
        self._image_came.set()
        if failure is not None:
            await context.abort(failure, "scripted")
        return engine_pb2.PutImageResponse()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for images."""
        while not condition():
            self._image_came.clear()
            await self._image_came.wait()

    def _hello(self) -> engine_pb2.ServerHello:
        info = engine_pb2.EngineInfo(
            model=self.model,
            architecture="LlamaForCausalLM",
            dtype="float32",
            context_length=CONTEXT_LENGTH,
            fingerprint=engine_pb2.Fingerprint(vocab_size=self._vocab_size),
            epoch="one",
            has_vision=self.has_vision,
        )
        return engine_pb2.ServerHello(protocol_version=1, info=info)


@contextlib.asynccontextmanager
async def running_engine(engine: ScriptedEngine, listen: str) -> AsyncIterator[None]:
    """Serves an engine; sessions are cut when the context ends."""
    server = grpc.aio.server()
    engine_pb2_grpc.add_EngineServicer_to_server(engine, server)
    server.add_insecure_port(listen)
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)
