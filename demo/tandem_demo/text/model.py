"""The demo model: a Llama with grouped-query attention, just under 8 MB in bfloat16."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tandem_demo.text.tokenizer import (
    BEGIN,
    BEGIN_ID,
    CHAT_TEMPLATE,
    END,
    END_ID,
    PAD,
    PAD_ID,
    ROLES,
    VOCAB_SIZE,
)

CONTEXT_LENGTH = 1024
MAX_FILE_BYTES = 8_000_000


def make_config() -> LlamaConfig:
    """The model's shape: 3.87 million parameters."""
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT_LENGTH,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        pad_token_id=PAD_ID,
        bos_token_id=BEGIN_ID,
        eos_token_id=END_ID,
        use_cache=True,
    )


def make_model(device: torch.device) -> LlamaForCausalLM:
    """A new model with float32 weights; set torch's seed before."""
    model: Any = LlamaForCausalLM(make_config())
    model.set_attn_implementation("sdpa")
    made: LlamaForCausalLM = model.to(device=device, dtype=torch.float32)
    return made


def load_model(directory: Path, device: torch.device, dtype: torch.dtype) -> LlamaForCausalLM:
    """The model as shipped, computing in `dtype`; the rotary frequencies stay float32."""
    model: Any = LlamaForCausalLM.from_pretrained(directory, dtype=dtype)
    loaded: LlamaForCausalLM = model.to(device)
    return loaded


def save_checkpoint(model: LlamaForCausalLM, tokenizer: Tokenizer, directory: Path) -> int:
    """Write a Hugging Face model directory with bfloat16 weights; returns the weights' size in bytes.

    Raises:
        ValueError: the weights' file is larger than `MAX_FILE_BYTES`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    weights = {name: weight.detach().to("cpu", torch.bfloat16) for name, weight in model.state_dict().items()}
    shipped: Any = LlamaForCausalLM(make_config())
    shipped.to(dtype=torch.bfloat16)
    shipped.load_state_dict(weights)
    shipped.generation_config = _generation_defaults()
    shipped.save_pretrained(directory)
    save_tokenizer(tokenizer, directory)
    weights_file = directory / "model.safetensors"
    weights_file.chmod(0o644)  # safetensors makes it readable by its owner alone
    num_bytes = weights_file.stat().st_size
    if num_bytes > MAX_FILE_BYTES:
        raise ValueError(f"model.safetensors has {num_bytes} bytes, more than {MAX_FILE_BYTES}")
    return num_bytes


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and chat_template.jinja."""
    make_fast: Any = PreTrainedTokenizerFast
    fast = make_fast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=list(ROLES.values()),
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
    fast.save_pretrained(directory)


def _generation_defaults() -> GenerationConfig:
    """Greedy: the model is trained to give one right answer."""
    make_defaults: Any = GenerationConfig
    defaults: GenerationConfig = make_defaults(
        bos_token_id=BEGIN_ID, eos_token_id=END_ID, pad_token_id=PAD_ID, do_sample=False
    )
    return defaults
