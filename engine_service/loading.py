"""From a checkpoint to a runner that is ready: weights, sizes, KV cache, graphs."""

import logging
import os
import time
from functools import partial
from pathlib import Path

import torch

from engine_service.allocation import empty_model, largest_prefill, steps_of
from engine_service.compiling import NUM_LAYERS, compiling, launch_all
from engine_service.config import EngineConfig
from engine_service.cuda_graph import GraphedSteps
from engine_service.device import check_device, choose_device
from engine_service.device_memory import MemoryUse
from engine_service.graphs import GraphPool, capture_in_turn
from engine_service.image_encoder import ImageEncoder
from engine_service.kv_cache import bytes_per_block
from engine_service.model_config import ModelConfig, num_image_slots
from engine_service.model_runner import ModelRunner
from engine_service.model_steps import ModelSteps
from engine_service.models.decoder import Decoder
from engine_service.models.llava import Llava
from engine_service.weights import load_weights

log = logging.getLogger("tandem.core")

CPU_KV_CACHE_BYTES = 1 << 30


def load_runner(
    config: EngineConfig, model_config: ModelConfig, directory: Path, num_eos_ids: int
) -> ModelRunner:
    """Loads the weights, allocates the KV cache and captures the graphs.

    Raises:
        ValueError: The checkpoint is broken, there is no such device, or its memory does not suffice.
    """
    device = choose_device(config.device)
    torch.set_num_threads(config.num_threads or _num_threads(device))
    dtype = _dtype(config, model_config, device)
    use = MemoryUse(device, config.gpu_memory_utilization)
    try:
        return _load(config, model_config, directory, num_eos_ids, dtype, device, use)
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". GPU")[0]
        raise ValueError(
            f"{reason}; lower --max-num-seqs, --max-prefill-tokens or --kv-cache-mib, or free the GPU"
        ) from None


@torch.inference_mode()
def _load(
    config: EngineConfig,
    model_config: ModelConfig,
    directory: Path,
    num_eos_ids: int,
    dtype: torch.dtype,
    device: torch.device,
    use: MemoryUse,
) -> ModelRunner:
    num_images = num_image_slots(model_config, config.image_cache_mib << 20, dtype.itemsize)
    is_gpu = device.type == "cuda"
    if is_gpu:
        without_memory = empty_model(model_config, dtype, torch.device("meta"), num_images)
        use.check_weights(sum(each.nbytes for each in without_memory.parameters()))
    model = empty_model(model_config, dtype, device, num_images)
    pool = GraphPool(device) if is_gpu and not config.eager else None
    images = ImageEncoder(model, device, pool) if isinstance(model, Llava) else None
    steps_with = steps_of(model, config, model_config, num_eos_ids, dtype, device)
    if is_gpu:
        with compiling(partial(launch_all, config, steps_with(0, NUM_LAYERS), images)):
            _fill(model, model_config, directory)
        use.note("weights")
        # What it takes stays with torch, and is there again whenever a step needs as much.
        _run_largest_prefill(steps_with(0, model_config.num_layers), config)
        if images:
            images.run_largest()
        use.note("workspace")
    else:
        _fill(model, model_config, directory)
    steps = steps_with(_num_blocks(config, model_config, dtype, use), model_config.num_layers)
    use.note("KV cache")
    graphs = GraphedSteps(steps, config.max_num_seqs, config.max_prefill_tokens, pool, is_padded=is_gpu)
    if pool:
        use.give_back()  # as each capture does
        capture_in_turn(graphs.captures() + (images.captures() if images else []))
        use.note("graphs")
    use.report()
    return ModelRunner(steps, graphs, steps.upload, images)


def _num_threads(device: torch.device) -> int:
    """How many threads an operation on the CPU has.

    The services and their clients need cores too: with a thread on each core, the threads of one operation
    wait for the one that was put aside (2 busy cores, demo model: 27 ms a step became 270). Beside a GPU
    there is nothing to share out but the copying of an image (16 threads on 2 cores: a prefill of 15 ms took
    71).
    """
    return 1 if device.type == "cuda" else max(1, len(os.sched_getaffinity(0)) // 2)


def _dtype(config: EngineConfig, model_config: ModelConfig, device: torch.device) -> torch.dtype:
    if config.dtype != "auto":
        return getattr(torch, config.dtype)  # type: ignore[no-any-return]
    if device.type == "cpu":
        return torch.float32
    return torch.float16 if model_config.dtype == "float16" else torch.bfloat16


def _fill(model: Decoder | Llava, model_config: ModelConfig, directory: Path) -> None:
    start_s = time.monotonic()
    rename = model.checkpoint_name if isinstance(model, Llava) else str
    tensors = model.checkpoint_tensors()
    load_weights(directory, tensors, is_tied=model_config.is_tied, rename=rename)
    num_bytes, seconds = sum(each.nbytes for each in tensors.values()), time.monotonic() - start_s
    log.info(
        "loaded %.2f GB of weights in %.1f s, %.1f GB/s", num_bytes / 1e9, seconds, num_bytes / 1e9 / seconds
    )


def _run_largest_prefill(steps: ModelSteps, config: EngineConfig) -> None:
    """Runs as many padding tokens as a step may have: shows the memory that it takes."""
    shape = largest_prefill(config)
    steps.fill_with_padding(shape)
    steps.prefill(shape)
    check_device(steps.table.state.device)


def _num_blocks(config: EngineConfig, model_config: ModelConfig, dtype: torch.dtype, use: MemoryUse) -> int:
    if config.num_blocks:
        return config.num_blocks
    block_bytes = bytes_per_block(model_config, config.kv_block_size, dtype)
    num_bytes = config.kv_cache_mib << 20
    if not num_bytes:
        num_bytes = use.kv_cache_bytes() if use.is_measured else CPU_KV_CACHE_BYTES
    return num_bytes // block_bytes
