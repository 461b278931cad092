"""The shape of a language model: what its config.json says, and the tensors of its checkpoint."""

from dataclasses import dataclass
from typing import Any

EOS = "<|end_of_text|>"


@dataclass(frozen=True)
class Shape:
    """A decoder-only model without its weights; the values are those of the published config.json.

    Attributes:
        name: As on the hub, without the organization.
        family: The `model_type` of transformers.
        rope_factor: Of the llama3 rule; None for plain rotary positions.
        eos_token_id: Random runs ignore it, but both services read it.
        num_seed_prompts: Prompts of the `seed` workload.
    """

    name: str
    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    rope_factor: float | None
    context_length: int
    is_tied: bool
    eos_token_id: int
    num_seed_prompts: int = 16

    @property
    def special_tokens(self) -> dict[int, str]:
        """What the stand-in tokenizer calls ids that are no text."""
        return {self.eos_token_id: EOS}

    @property
    def has_qkv_bias(self) -> bool:
        """Whether query, key and value have biases."""
        return self.family == "qwen2"

    @property
    def has_qk_norm(self) -> bool:
        """Whether heads of query and key are normalized."""
        return self.family == "qwen3"

    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return {
            "architectures": [f"{self.family.capitalize()}ForCausalLM"],
            "model_type": self.family,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            "rope_theta": self.rope_theta,
            "rope_scaling": _rope_scaling(self.rope_factor),
            "max_position_embeddings": self.context_length,
            "tie_word_embeddings": self.is_tied,
            "eos_token_id": self.eos_token_id,
            "torch_dtype": "bfloat16",
        }

    def files(self) -> dict[str, dict[str, Any]]:
        """The JSON files of the checkpoint that say how to read it, by name."""
        return {"config.json": self.config()}

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor of the checkpoint, by name."""
        return self.language_tensors()

    def language_tensors(self) -> dict[str, tuple[int, ...]]:
        """Those of the language model, by their names where there is nothing else."""
        embedding = (self.vocab_size, self.hidden_size)
        found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": embedding}
        for layer in range(self.num_layers):
            found |= {f"model.layers.{layer}.{name}": shape for name, shape in self._layer_tensors().items()}
        found["model.norm.weight"] = (self.hidden_size,)
        return found if self.is_tied else found | {"lm_head.weight": embedding}

    def _layer_tensors(self) -> dict[str, tuple[int, ...]]:
        hidden, inner = self.hidden_size, self.intermediate_size
        heads = {"q": self.num_heads, "k": self.num_kv_heads, "v": self.num_kv_heads}
        rows = {name: count * self.head_dim for name, count in heads.items()}
        found: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (hidden,),
            "post_attention_layernorm.weight": (hidden,),
            "self_attn.o_proj.weight": (hidden, rows["q"]),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
        }
        found |= {f"self_attn.{name}_proj.weight": (count, hidden) for name, count in rows.items()}
        if self.has_qkv_bias:
            found |= {f"self_attn.{name}_proj.bias": (count,) for name, count in rows.items()}
        if self.has_qk_norm:
            found |= {f"self_attn.{name}_norm.weight": (self.head_dim,) for name in "qk"}
        return found


def _rope_scaling(factor: float | None) -> dict[str, Any] | None:
    if factor is None:
        return None
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
