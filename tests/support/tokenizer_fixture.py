"""A tokenizer service in this process, in front of a scripted engine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.scripted_engine import Script, ScriptedEngine, running_engine
from support.small_tokenizers import byte_level
from tandem.v1 import error_pb2, inference_pb2, inference_pb2_grpc
from tandem_service.errors import ServiceError
from tandem_service.status import DETAILS_TRAILER, from_status
from tokenizer_service.config import TokenizerServiceConfig
from tokenizer_service.service import serve

VOCAB_SIZE = byte_level().get_vocab_size()


@dataclass(frozen=True)
class Serving:
    """What a test talks to."""

    stub: Any
    engine: ScriptedEngine
    channel: grpc.aio.Channel
    address: str
    engine_address: str

    async def until_health(self, state: int) -> None:
        """Waits for SERVING (1) or NOT_SERVING (2)."""
        watch = health_pb2_grpc.HealthStub(self.channel).Watch(health_pb2.HealthCheckRequest())
        async for response in watch:
            if response.status == state:
                break
        watch.cancel()


@contextlib.asynccontextmanager
async def serving(
    directory: Path,
    script: Script,
    *,
    with_engine: bool = True,
    has_vision: bool = False,
    credentials: grpc.ChannelCredentials | None = None,
    **flags: Any,
) -> AsyncIterator[Serving]:
    """Serves the model in `directory`; with an engine, it is connected when the context begins.

    An engine with vision has one token more, the placeholder. `credentials` are those of the channel to a
    service whose flags have certificates.
    """
    engine = ScriptedEngine(script, VOCAB_SIZE + has_vision)
    engine.has_vision = has_vision
    engine_address = f"unix:{directory}/engine-{id(engine)}.sock"
    config = TokenizerServiceConfig(
        listen="127.0.0.1:0", engine=engine_address, model=str(directory), model_name="small", **flags
    )
    address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    ending = asyncio.Event()

    async def until() -> None:
        await ending.wait()

    async with contextlib.AsyncExitStack() as stack:
        if with_engine:
            await stack.enter_async_context(running_engine(engine, engine_address))
        service = asyncio.create_task(serve(config, until, address.set_result))
        await asyncio.wait({service, address}, return_when=asyncio.FIRST_COMPLETED)
        try:
            options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
            async with _channel(address.result(), credentials, options) as channel:
                stub = inference_pb2_grpc.InferenceStub(channel)
                found = Serving(stub, engine, channel, address.result(), engine_address)
                if with_engine:
                    await found.until_health(1)
                yield found
        finally:
            ending.set()
            await service


def _channel(address: str, credentials: grpc.ChannelCredentials | None, options: Any) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(address, options)
    return grpc.aio.secure_channel(address, credentials, options)


async def events_of(call: Any) -> list[Any]:
    """All events of a stream."""
    return [event async for event in call]


async def failure_of_call(call: Any) -> tuple[grpc.StatusCode, ServiceError]:
    """The status that a call ends with, and the error in its details."""
    try:
        await (events_of(call) if hasattr(call, "__aiter__") else call)
    except grpc.aio.AioRpcError as error:
        return failure_of_error(error)
    raise AssertionError("the call did not fail")


def failure_of_error(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, ServiceError]:
    """The status of a failed call, and the error in its details."""
    trailer = dict(error.trailing_metadata() or ()).get(DETAILS_TRAILER, b"")
    return error.code(), from_status(_status(trailer))


def generate_request(prompt: str = "the quick fox", **fields: Any) -> inference_pb2.GenerateRequest:
    """A request for a prompt."""
    return inference_pb2.GenerateRequest(prompt=prompt, **fields)


def encode(text: str) -> list[int]:
    """The ids of a text in the small model's vocabulary."""
    return list(byte_level().encode(text, add_special_tokens=False).ids)


def _status(data: str | bytes) -> Any:

    return error_pb2.Status.FromString(data if isinstance(data, bytes) else data.encode())
