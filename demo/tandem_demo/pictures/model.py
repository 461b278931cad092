"""The picture model: a CLIP tower, a projector and a Llama, 11.5 MB in bfloat16."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from tandem_demo.pictures.pixels import IMAGE_SIDE
from tandem_demo.pictures.processor import CONTEXT_LENGTH, save_processor
from tandem_demo.pictures.rows import NUM_PATCHES, PATCH_SIDE
from tandem_demo.pictures.tokenizer import BEGIN_ID, END_ID, IMAGE_ID, PAD_ID, VOCAB_SIZE

MAX_BYTES = 12_000_000
"""Of all files of the checkpoint together."""
VISION_WIDTH, TEXT_WIDTH = 192, 256


def make_config() -> LlavaConfig:
    """The model's shape: 5.7 million parameters."""
    vision: Any = CLIPVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=3 * VISION_WIDTH,
        num_hidden_layers=7,
        num_attention_heads=6,
        image_size=IMAGE_SIDE,
        patch_size=PATCH_SIDE,
        projection_dim=VISION_WIDTH,
    )
    text: Any = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=TEXT_WIDTH,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT_LENGTH,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        bos_token_id=BEGIN_ID,
        eos_token_id=END_ID,
    )
    make: Any = LlavaConfig
    config: LlavaConfig = make(
        vision_config=vision,
        text_config=text,
        image_token_index=IMAGE_ID,
        image_seq_length=NUM_PATCHES,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        bos_token_id=BEGIN_ID,
        eos_token_id=END_ID,
    )
    return config


def make_model(device: torch.device) -> LlavaForConditionalGeneration:
    """A new model with float32 weights; set torch's seed before.

    The vision tower's last layer is never used: features are those before it. Its weights are zeros.
    """
    model: Any = LlavaForConditionalGeneration(make_config())
    model.set_attn_implementation("sdpa")
    tower = model.model.vision_tower
    for module in (tower.encoder.layers[-1], tower.post_layernorm):
        for weight in module.parameters():
            torch.nn.init.zeros_(weight.requires_grad_(False))
    made: LlavaForConditionalGeneration = model.to(device=device, dtype=torch.float32)
    return made


def load_model(directory: Path, device: torch.device, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """The model as shipped, computing in `dtype`."""
    model: Any = LlavaForConditionalGeneration.from_pretrained(directory, dtype=dtype)
    loaded: LlavaForConditionalGeneration = model.to(device)
    return loaded


def save_checkpoint(model: LlavaForConditionalGeneration, tokenizer: Tokenizer, directory: Path) -> int:
    """Write a Hugging Face model directory with bfloat16 weights; returns its size in bytes.

    Files are made beside and then moved, so a run that is killed leaves the last checkpoint whole.

    Raises:
        ValueError: the files are larger than `MAX_BYTES` together.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent) as name:
        fresh = Path(name)
        _bfloat16_copy(model).save_pretrained(fresh)
        save_processor(tokenizer, fresh)
        num_bytes = sum(file.stat().st_size for file in fresh.iterdir())
        if num_bytes > MAX_BYTES:
            raise ValueError(f"the checkpoint has {num_bytes} bytes, more than {MAX_BYTES}")
        for file in fresh.iterdir():
            file.chmod(0o644)  # safetensors makes it readable by its owner alone
            os.replace(file, directory / file.name)
    return num_bytes


def _bfloat16_copy(model: LlavaForConditionalGeneration) -> Any:
    weights = {name: weight.detach().to("cpu", torch.bfloat16) for name, weight in model.state_dict().items()}
    shipped: Any = LlavaForConditionalGeneration(make_config())
    shipped.to(dtype=torch.bfloat16)
    shipped.load_state_dict(weights)
    make_defaults: Any = GenerationConfig
    # Greedy: the model is trained to give one right answer.
    shipped.generation_config = make_defaults(
        bos_token_id=BEGIN_ID, eos_token_id=END_ID, pad_token_id=PAD_ID, do_sample=False
    )
    return shipped
