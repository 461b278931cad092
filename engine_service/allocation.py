"""What steps need on a device, allocated and not yet filled."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from engine_service.config import EngineConfig
from engine_service.kv_cache import KVCache
from engine_service.model_config import ModelConfig
from engine_service.model_steps import ModelSteps
from engine_service.models.decoder import Decoder
from engine_service.models.llava import Llava
from engine_service.sampling_params import MAX_LOGIT_BIAS, MAX_STOP_TOKEN_IDS
from engine_service.sequence_table import SequenceTable
from engine_service.step_words import PrefillShape
from engine_service.upload import Upload, aligned
from tandem_kernels.decode_plan import empty_plan
from tandem_kernels.sequence_state import StateLayout


def empty_model(
    model_config: ModelConfig, dtype: torch.dtype, device: torch.device, num_images: int
) -> Decoder | Llava:
    """The model, with room for the features of `num_images` if it sees."""
    with _default_dtype(dtype):
        if model_config.vision is None:
            return Decoder(model_config, device)
        return Llava(model_config, device, num_images)


def steps_of(
    model: Decoder | Llava,
    config: EngineConfig,
    model_config: ModelConfig,
    num_eos_ids: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Callable[[int, int], ModelSteps]:
    """Allocates all but the KV cache, which what is returned does: for so many blocks, and layers at most."""
    language_model = model.language_model if isinstance(model, Llava) else model
    table = _sequence_table(config, model_config, num_eos_ids, device)
    upload = Upload(_num_input_words(config), device)
    heads = (model_config.num_heads, model_config.num_kv_heads, model_config.head_dim)
    plan = empty_plan(config.max_num_seqs, *heads, device)

    def steps_with(num_blocks: int, num_layers: int) -> ModelSteps:
        layers = replace(model_config, num_layers=min(num_layers, model_config.num_layers))
        cache = KVCache(layers, num_blocks, config.kv_block_size, dtype, device)
        table.use_scratch_block(num_blocks)
        return ModelSteps(language_model, cache, table, upload, plan)

    return steps_with


def largest_prefill(config: EngineConfig) -> PrefillShape:
    """As many tokens as a step may have, all of one prompt."""
    return PrefillShape(config.max_prefill_tokens, 1, 1)


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _sequence_table(
    config: EngineConfig, model_config: ModelConfig, num_eos_ids: int, device: torch.device
) -> SequenceTable:
    context_length = config.context_length or model_config.context_length
    layout = StateLayout(
        max_stop_ids=MAX_STOP_TOKEN_IDS + num_eos_ids,
        max_biases=MAX_LOGIT_BIAS,
        max_blocks=-(-context_length // config.kv_block_size),
    )
    return SequenceTable(config.max_num_seqs, model_config.vocab_size, layout, device)


def _num_input_words(config: EngineConfig) -> int:
    """Words of the fullest step."""
    shape = PrefillShape(config.max_prefill_tokens, config.max_num_seqs, config.max_num_seqs)
    return 2 * aligned(config.max_num_seqs) + shape.num_words
