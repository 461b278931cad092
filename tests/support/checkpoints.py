"""Small random checkpoints in the Hugging Face format, made with transformers."""

from pathlib import Path
from typing import Any

import torch
import transformers

CONFIGS = {
    "llama": transformers.LlamaConfig,
    "mistral": transformers.MistralConfig,
    "qwen2": transformers.Qwen2Config,
    "qwen3": transformers.Qwen3Config,
}


def random_model(family: str, *, seed: int = 0, **changes: Any) -> transformers.PreTrainedModel:
    """A float32 model of a family with random weights, biases and norms.

    Args:
        family: A key of CONFIGS.
        seed: Of the weights.
        changes: Fields of the configuration that differ from a tiny default.
    """
    fields: dict[str, Any] = {
        "vocab_size": 97,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }
    if family == "mistral":
        fields["sliding_window"] = None
    torch.manual_seed(seed)
    config = CONFIGS[family](**(fields | changes))
    return randomize(transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32))


def randomize(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """Fills a model with weights of the seed that torch has, and returns it."""
    for name, tensor in model.named_parameters():
        # Weights far from zero make greedy choices clear; transformers starts biases and norms at 0 and 1.
        if "norm" in name:
            tensor.data.uniform_(0.5, 1.5)
        else:
            tensor.data.normal_(0.0, 1.6 * tensor.shape[-1] ** -0.5)
    return model.eval()


def save(model: transformers.PreTrainedModel, directory: Path, **options: Any) -> Path:
    """Writes a model's directory and returns it."""
    model.save_pretrained(directory, **options)
    return directory


def greedy_ids(model: transformers.PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    """The ids that transformers generates after a prompt."""
    ids = torch.tensor([prompt])
    output = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count, use_cache=True
    )
    return output[0, len(prompt) :].tolist()  # type: ignore[no-any-return]
