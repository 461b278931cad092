"""tandem.engine.v1.Engine over gRPC. No torch in this process."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine, Iterator

import grpc

from engine_service import conversion, image_conversion
from engine_service.config import EngineConfig
from engine_service.core_messages import EngineInfo
from engine_service.core_process import StartedCore
from engine_service.engine import Engine
from engine_service.session import ClientSession, Frames
from tandem.engine.v1 import engine_pb2 as pb, engine_pb2_grpc
from tandem_service import grpc_server
from tandem_service.errors import InvalidRequestError, MismatchError, ServiceError, Violation, invalid
from tandem_service.metrics import metrics_listener
from tandem_service.model_dir import Fingerprint
from tandem_service.termination import wait_for_termination

log = logging.getLogger("tandem.engine")

SERVICE = "tandem.engine.v1.Engine"


class EngineServicer(engine_pb2_grpc.EngineServicer):
    """The methods of the engine contract; errors become statuses in the interceptor."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def Session(  # noqa: N802
        self,
        requests: AsyncIterator[pb.SessionRequest],
        context: "grpc.aio.ServicerContext[pb.SessionRequest, pb.SessionResponse]",
    ) -> AsyncIterator[pb.SessionResponse]:
        """Carries the sequences of one tokenizer worker."""
        hello = await anext(aiter(requests), None)
        if hello is None:
            return
        with self._engine.session() as session:
            info = self._engine.ready_info()
            _check_hello(hello, info)
            yield pb.SessionResponse(
                hello=pb.ServerHello(
                    protocol_version=conversion.PROTOCOL_VERSION,
                    info=conversion.to_info(info, self._engine.config),
                )
            )
            async with _running(self._obey_all(requests, session, hello)):
                while not session.is_done:
                    frames = await session.take_frames()
                    for response in _responses(frames):
                        yield response
                    if frames.error is not None:
                        raise frames.error

    async def Generate(  # noqa: N802
        self,
        request: pb.GenerateRequest,
        context: "grpc.aio.ServicerContext[pb.GenerateRequest, pb.GenerateResponse]",
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Runs one sequence in a session of its own."""
        with self._engine.session() as session:
            self._take_up(session, 0, request.spec)
            session.close()
            while not session.is_done:
                frames = await session.take_frames()
                if frames.needed_images:
                    raise image_conversion.missing_images(request.spec, frames.needed_images)
                for columns in frames.columns:
                    if columns.tokens or columns.finished:
                        yield conversion.to_generate_response(columns)
                if frames.error is not None:
                    raise frames.error

    async def PutImage(  # noqa: N802
        self,
        request: pb.PutImageRequest,
        context: "grpc.aio.ServicerContext[pb.PutImageRequest, pb.PutImageResponse]",
    ) -> pb.PutImageResponse:
        """Leaves pixels with the core, unless it has them."""
        return pb.PutImageResponse(was_cached=self._take_image(request))

    async def GetEngineInfo(  # noqa: N802
        self,
        request: pb.GetEngineInfoRequest,
        context: "grpc.aio.ServicerContext[pb.GetEngineInfoRequest, pb.GetEngineInfoResponse]",
    ) -> pb.GetEngineInfoResponse:
        """Says what runs."""
        return pb.GetEngineInfoResponse(
            info=conversion.to_info(self._engine.ready_info(), self._engine.config)
        )

    async def GetLoad(  # noqa: N802
        self,
        request: pb.GetLoadRequest,
        context: "grpc.aio.ServicerContext[pb.GetLoadRequest, pb.GetLoadResponse]",
    ) -> pb.GetLoadResponse:
        """Says how busy the engine is."""
        self._engine.ready_info()
        return pb.GetLoadResponse(load=conversion.to_load(self._engine.load))

    async def _obey_all(
        self, requests: AsyncIterator[pb.SessionRequest], session: ClientSession, first: pb.SessionRequest
    ) -> None:
        try:
            self._obey(first, session)
            async for request in requests:
                self._obey(request, session)
        except ServiceError as error:
            session.fail(error)
        else:
            session.close()

    def _obey(self, request: pb.SessionRequest, session: ClientSession) -> None:
        for image in request.images:
            # What is wrong with pixels is said by PutImage, to whoever sends them again when asked for them.
            with contextlib.suppress(InvalidRequestError):
                self._take_image(image)
        for submit in request.submits:
            self._submit(submit, session)
        for sequence in request.cancels:
            self._engine.end(session, sequence)
        for stop in request.stops:
            self._engine.end(session, stop.sequence)
        self._engine.flush()

    def _take_image(self, request: pb.PutImageRequest) -> bool:
        pixels = request.pixels  # a copy of them each time
        image_conversion.check_image(request, pixels, self._engine.ready_info())
        return self._engine.put_image(request.sha256, pixels)

    def _submit(self, submit: pb.Submit, session: ClientSession) -> None:
        try:
            self._take_up(session, submit.sequence, submit.spec)
        except ServiceError as error:
            session.reject(submit.sequence, error)

    def _take_up(self, session: ClientSession, number: int, spec: pb.SequenceSpec) -> None:
        try:
            session.take_number(number)
            self._engine.submit(session, number, conversion.to_spec(spec, self._engine.ready_info()))
        except ServiceError as error:
            self._engine.observer.rejected(spec.request_id, error)
            raise


async def serve(config: EngineConfig, first_core: StartedCore) -> int:
    """Runs the engine service until it is told to end; returns the process's exit code."""
    engine = Engine(config, first_core)
    options = grpc_server.options(config, config.max_message_mib << 20)
    calls = engine.observer.metrics.calls

    def register(server: grpc.aio.Server) -> None:
        engine_pb2_grpc.add_EngineServicer_to_server(EngineServicer(engine), server)

    async with (
        _observing(engine),
        grpc_server.running_server(config, config.listen, [SERVICE], register, options, calls) as server,
        _running(engine.run()) as keeper,
        _running(_follow(engine, server)) as follower,
    ):
        ending = asyncio.create_task(wait_for_termination(config.ends_with_input))
        await asyncio.wait([ending, follower, keeper], return_when=asyncio.FIRST_COMPLETED)
        if keeper.done():
            keeper.result()  # raises what nobody has foreseen
        if ending.done():
            await server.life.end(config.lame_duck_s, config.grace_s, engine.drain)
        ending.cancel()
    return 1 if engine.start_failure else 0


@contextlib.asynccontextmanager
async def _observing(engine: Engine) -> AsyncIterator[None]:
    """Serves the engine's metrics inside the context, and sends its last spans afterwards."""
    try:
        config = engine.config
        with metrics_listener(config.metrics_listen, engine.observer.metrics.registry, config.tls):
            yield
    finally:
        await asyncio.to_thread(engine.observer.close)


async def _follow(engine: Engine, server: grpc_server.Server) -> None:
    """Keeps health true to the core; returns if the core cannot start."""
    while True:
        await engine.changed()
        server.health.set_ready(engine.info is not None)
        if engine.start_failure is not None:
            log.error("cannot serve: %s", engine.start_failure)
            return
        if engine.info is not None:
            log.info(
                "engine service listens on %s: %s (%s, %s on %s), %d blocks of %d tokens",
                server.address,
                engine.info.model,
                engine.info.architecture,
                engine.info.dtype,
                engine.info.device,
                engine.info.num_blocks,
                engine.info.kv_block_size,
            )


def _check_hello(request: pb.SessionRequest, info: EngineInfo) -> None:
    if not request.HasField("hello"):
        raise invalid(Violation("hello", "must be set in the first message"))
    version = request.hello.protocol_version
    if version != conversion.PROTOCOL_VERSION:
        raise MismatchError(
            f"hello.protocol_version={version}: this engine speaks {conversion.PROTOCOL_VERSION}"
        )
    _check_fingerprint(conversion.from_fingerprint(request.hello.fingerprint), info)


def _check_fingerprint(tokenizer: Fingerprint, info: EngineInfo) -> None:
    """A tokenizer that does not belong to the weights would be the worst silent fault."""
    prefix = f"the tokenizer does not belong to {info.model}"
    if tokenizer.vocab_size > info.vocab_size:
        raise MismatchError(
            f"{prefix}: its vocab_size={tokenizer.vocab_size} is more than the model's {info.vocab_size}"
        )
    if tokenizer.eos_token_ids != info.eos_token_ids:
        raise MismatchError(
            f"{prefix}: its eos_token_ids={list(tokenizer.eos_token_ids)}, the model's "
            f"{list(info.eos_token_ids)}"
        )
    if tokenizer.tokenizer_sha256 and info.tokenizer_sha256 not in (b"", tokenizer.tokenizer_sha256):
        raise MismatchError(
            f"{prefix}: its tokenizer_sha256={tokenizer.tokenizer_sha256.hex()[:16]}…, the model's "
            f"{info.tokenizer_sha256.hex()[:16]}…"
        )


def _responses(frames: Frames) -> Iterator[pb.SessionResponse]:
    for sequence, error in frames.rejected:
        yield conversion.to_rejected(sequence, error)
    for image in frames.needed_images:
        yield pb.SessionResponse(need_image=pb.NeedImage(sha256=image))
    for columns in frames.columns:
        yield pb.SessionResponse(step=conversion.to_step(columns))


@contextlib.asynccontextmanager
async def _running(work: Coroutine[None, None, None]) -> AsyncIterator["asyncio.Task[None]"]:
    """Runs `work` beside the context and cancels it at the end."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
