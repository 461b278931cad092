"""One worker of the tokenizer service, from loading to draining."""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc

from tandem.v1.inference_pb2_grpc import add_InferenceServicer_to_server
from tandem_service.grpc_server import options, running_server
from tandem_service.health import Health
from tandem_service.metrics import metrics_listener
from tandem_service.model_dir import resolve
from tandem_service.termination import wait_for_termination
from tokenizer_service.byte_budget import ByteBudget
from tokenizer_service.chat import ChatTemplate
from tokenizer_service.config import TokenizerServiceConfig, limits_of
from tokenizer_service.engine_channel import EngineChannels
from tokenizer_service.engine_session import EngineSession
from tokenizer_service.image_config import load_image_config
from tokenizer_service.image_file import ImageBounds
from tokenizer_service.image_loader import ImageLoader
from tokenizer_service.model import Model
from tokenizer_service.observer import Observer
from tokenizer_service.sampling_defaults import load_defaults
from tokenizer_service.server import SERVICE, InferenceServicer
from tokenizer_service.tokenizer import FILES, NEEDED, Tokenizer, load_tokenizer
from tokenizer_service.vision import Vision

log = logging.getLogger("tandem.tokenizer")


async def serve(
    config: TokenizerServiceConfig,
    until: Callable[[], Awaitable[None]] = wait_for_termination,
    on_listening: Callable[[str], None] = lambda address: None,
) -> None:
    """Serves until told to end, then lets running requests finish.

    Args:
        config: The service's configuration.
        until: Returns when the service shall end.
        on_listening: Called once, with the address.

    Raises:
        ValueError: The model cannot be loaded, or an address cannot be listened on.
        MismatchError: The engine's model does not belong to the tokenizer.
    """
    observer = Observer(config)
    try:
        with metrics_listener(config.metrics_listen, observer.metrics.registry, config.tls):
            await _serve_observed(config, observer, until, on_listening)
    finally:
        await asyncio.to_thread(observer.close)


async def _serve_observed(
    config: TokenizerServiceConfig,
    observer: Observer,
    until: Callable[[], Awaitable[None]],
    on_listening: Callable[[str], None],
) -> None:
    changes: asyncio.Queue[bool] = asyncio.Queue()

    def on_connection(is_there: bool) -> None:
        observer.connected(is_there)
        changes.put_nowait(is_there)

    model = load_model(config, on_connection, observer.image)
    servicer = InferenceServicer(
        model, observer, config.max_requests, config.max_requests_per_stream, config.max_lingering
    )

    def register(server: grpc.aio.Server) -> None:
        add_InferenceServicer_to_server(servicer, server)

    server_options = options(config, config.max_request_bytes, shares_port=config.is_worker)
    session = asyncio.create_task(model.session.run())
    try:
        async with running_server(
            config, config.listen, [SERVICE], register, server_options, observer.metrics.calls
        ) as server:
            on_listening(server.address)
            await _serve_until(until, session, _follow(changes, server.health))
            await server.life.end(config.lame_duck_s, config.grace_s, servicer.drain)
    finally:
        servicer.close()
        session.cancel()


def load_model(
    config: TokenizerServiceConfig,
    on_connection: Callable[[bool], None],
    on_image: Callable[[str], None],
) -> Model:
    """Reads what the service needs of a model.

    Args:
        config: The service's configuration.
        on_connection: Hears whether the engine is there, at every change that lasts.
        on_image: Hears of each image whether it was `decoded` or `cached`.

    Raises:
        ValueError: The model cannot be loaded.
    """
    directory = resolve(config.model, FILES, NEEDED)
    tokenizer = load_tokenizer(directory, config.encode_threads)
    vision = load_vision(directory, tokenizer, config, on_image)
    channels = EngineChannels(config.engine, config.engine_tls, config.engine_token_file)
    return Model(
        name=config.served_name,
        tokenizer=tokenizer,
        template=ChatTemplate(tokenizer.source, vision.token if vision else "", config.template_timeout_s),
        defaults=load_defaults(directory, config),
        limits=limits_of(config),
        session=EngineSession(channels, tokenizer.fingerprint, config.engine_timeout_s, on_connection),
        vision=vision,
    )


def load_vision(
    directory: Path, tokenizer: Tokenizer, config: TokenizerServiceConfig, on_image: Callable[[str], None]
) -> Vision | None:
    """Reads how a model takes images; None if its files say nothing about them. See `load_model`.

    Raises:
        ValueError: They say something that is not supported.
    """
    images = load_image_config(directory)
    if images is None:
        return None
    token = tokenizer.source.convert_ids_to_tokens(images.token_id)
    if token is None:
        raise ValueError(f"{directory}: the tokenizer has no token for the image token id {images.token_id}")
    # Padding makes squares of long pictures: then the side bounds the memory.
    max_square_side = math.isqrt(2 * config.max_image_pixels)
    pads = images.processor.background is not None
    bounds = ImageBounds(
        max_bytes=config.max_image_bytes,
        max_pixels=config.max_image_pixels,
        max_side=min(config.max_image_side, max_square_side) if pads else config.max_image_side,
    )
    budget = ByteBudget(config.image_memory_bytes, "image_memory_bytes")
    loader = ImageLoader(
        images.processor, bounds, config.image_threads, config.image_cache_bytes, budget, on_image
    )
    return Vision(images.token_id, token, images.num_tokens, config.max_images, loader)


async def _serve_until(
    until: Callable[[], Awaitable[None]], session: "asyncio.Task[None]", following: Awaitable[None]
) -> None:
    """Returns with `until`, or raises what ended the session."""
    ending, follower = asyncio.ensure_future(until()), asyncio.ensure_future(following)
    try:
        await asyncio.wait({ending, session}, return_when=asyncio.FIRST_COMPLETED)
        if session.done():
            session.result()
    finally:
        ending.cancel()
        follower.cancel()


async def _follow(changes: "asyncio.Queue[bool]", health: Health) -> None:
    """The service's health is the engine's presence."""
    while True:
        health.set_ready(await changes.get())
