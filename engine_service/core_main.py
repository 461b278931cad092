"""The entry point of the core process: loads what the configuration names and runs the loop."""

import gc
import multiprocessing
import os
import secrets
import signal
import socket
import threading
from pathlib import Path
from typing import Any

from engine_service.block_pool import BlockPool
from engine_service.config import EngineConfig
from engine_service.core import Core, Runner
from engine_service.core_messages import EngineInfo, StartFailed, VisionInfo
from engine_service.core_pipe import CoreEnd
from engine_service.cuda_context import open_context
from engine_service.fake_runner import FakeRunner
from engine_service.image_store import ImageStore
from engine_service.model_config import ModelConfig, num_image_slots, read_model_config
from engine_service.scheduler import Scheduler
from tandem_service import model_dir
from tandem_service.logs import set_up_logging

MODEL_FILES = ("*.json", "*.safetensors")
NEEDED_FILES = ("config.json", "*.safetensors")


def main(config: EngineConfig, connection: socket.socket) -> None:
    """Runs a core until its server is gone. Reports EngineInfo or StartFailed first."""
    # The server decides when the core ends: a Ctrl-C reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    set_up_logging(config.log_level, config.log_format)
    threading.Thread(target=_end_with_server, daemon=True).start()
    if config.device != "cpu" and not config.fake:
        threading.Thread(target=open_context, daemon=True).start()
    pipe = CoreEnd(connection, config.busy_poll_ms / 1e3)
    try:
        core, info = build(config, pipe)
    except (ValueError, MemoryError, RuntimeError, OSError) as error:
        pipe.send(StartFailed(" ".join(str(error).split())))
        return
    # What was loaded lives as long as the process: without it a collection takes no milliseconds.
    gc.collect()
    gc.freeze()
    pipe.send(info)
    core.run()


def _end_with_server() -> None:
    """Ends the process when the server's does; the loop would see that only after its step."""
    server = multiprocessing.parent_process()
    assert server is not None
    server.join()
    os._exit(1)


def build(config: EngineConfig, pipe: CoreEnd) -> tuple[Core[Any], EngineInfo]:
    """Loads the model and sizes the KV cache.

    Raises:
        ValueError: The checkpoint cannot be served, or the KV cache does not hold one sequence.
    """
    directory = model_dir.resolve(config.model, MODEL_FILES, NEEDED_FILES)
    model_config = read_model_config(directory)
    eos_ids = model_dir.eos_token_ids(directory)
    make_runner = _fake_runner if config.fake else _model_runner
    runner, num_blocks, num_images, dtype, device = make_runner(config, model_config, directory, eos_ids)
    scheduler = Scheduler(
        BlockPool(num_blocks),
        block_size=config.kv_block_size,
        max_num_seqs=config.max_num_seqs,
        max_prefill_tokens=config.max_prefill_tokens,
        eos_ids=eos_ids,
        prefix_caching=config.prefix_caching,
        images=_image_store(config, model_config, num_images),
    )
    info = EngineInfo(
        model=config.model_name or model_dir.last_part(config.model),
        architecture=model_config.architecture,
        dtype=dtype,
        device=device,
        vocab_size=model_config.vocab_size,
        eos_token_ids=eos_ids,
        tokenizer_sha256=model_dir.tokenizer_sha256(directory),
        context_length=_context_length(config, model_config, num_blocks),
        kv_block_size=config.kv_block_size,
        num_blocks=num_blocks,
        epoch=f"{os.getpid()}-{secrets.token_hex(4)}",
        vision=_vision_info(model_config, num_images),
    )
    return Core(scheduler, runner, pipe), info


def _image_store(config: EngineConfig, model_config: ModelConfig, num_images: int) -> ImageStore:
    num_features = model_config.vision.num_features if model_config.vision else 1
    return ImageStore(num_images, num_features, model_config.vocab_size, config.image_pixels_mib << 20)


def _vision_info(model_config: ModelConfig, num_images: int) -> VisionInfo | None:
    vision = model_config.vision
    if vision is None:
        return None
    return VisionInfo(vision.image_size, vision.num_features, vision.image_token_id, num_images)


def _fake_runner(
    config: EngineConfig, model_config: ModelConfig, _directory: Path, eos_ids: tuple[int, ...]
) -> tuple[Runner[Any], int, int, str, str]:
    per_sequence = -(-model_config.context_length // config.kv_block_size)
    num_blocks = config.num_blocks or per_sequence * config.max_num_seqs
    num_images = num_image_slots(model_config, config.image_cache_mib << 20, itemsize=4)
    return FakeRunner(config.fake_rate, eos_ids), num_blocks, num_images, model_config.dtype, "fake"


def _model_runner(
    config: EngineConfig, model_config: ModelConfig, directory: Path, eos_ids: tuple[int, ...]
) -> tuple[Runner[Any], int, int, str, str]:
    from engine_service.loading import load_runner  # only here is torch needed

    runner = load_runner(config, model_config, directory, len(eos_ids))
    return runner, runner.num_blocks, runner.num_images, runner.dtype, runner.device


def _context_length(config: EngineConfig, model_config: ModelConfig, num_blocks: int) -> int:
    wanted = config.context_length or model_config.context_length
    if wanted > model_config.context_length:
        raise ValueError(
            f"context_length={wanted}: the model has max_position_embeddings={model_config.context_length}"
        )
    held = num_blocks * config.kv_block_size
    if held < wanted and (config.context_length or held < 2):
        raise ValueError(
            f"context_length={wanted} needs {-(-wanted // config.kv_block_size)} blocks of the KV cache, "
            f"which has {num_blocks}; raise --kv-cache-mib or --gpu-memory-utilization, "
            "or lower --context-length"
        )
    return min(wanted, held)
