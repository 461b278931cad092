"""A small random LLaVA with its tokenizer: a directory that both services can serve."""

import json
from pathlib import Path

import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from support.checkpoints import randomize
from support.small_tokenizers import with_images, write_vision_model_dir

CONTEXT_LENGTH = 256
TEMPLATE = (
    "{% for message in messages %}<|user|>{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endfor %}<|assistant|>"
)


def seeing_model() -> LlavaForConditionalGeneration:
    """A float32 model over the vocabulary of `with_images`; 4 features an image."""
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=with_images().get_vocab_size(),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_LENGTH,
    )
    tower = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    image_token = with_images().token_to_id("<image>")
    config = LlavaConfig(vision_config=tower, text_config=text, image_token_index=image_token)
    return randomize(LlavaForConditionalGeneration(config))  # type: ignore[return-value]


def write_seeing_model(model: LlavaForConditionalGeneration, directory: Path) -> Path:
    """Writes the model's directory and returns it."""
    write_vision_model_dir(directory, TEMPLATE)
    eos = json.loads((directory / "config.json").read_text())["eos_token_id"]
    model.save_pretrained(directory)
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": eos}))
    return directory
