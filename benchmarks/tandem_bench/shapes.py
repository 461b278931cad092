"""The public shapes that random checkpoints are made in."""

from dataclasses import dataclass
from typing import Any


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

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor of the checkpoint, by name."""
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


_LLAMA3 = {
    "family": "llama",
    "vocab_size": 128256,
    "num_kv_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "context_length": 131072,
    "eos_token_id": 128001,
}
_LLAMA31_8B = {
    **_LLAMA3,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_heads": 32,
    "head_dim": 128,
    "rope_factor": 8.0,
    "is_tied": False,
}
_QWEN = {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "rope_factor": None}
_QWEN25 = {**_QWEN, "family": "qwen2", "context_length": 131072, "eos_token_id": 151643}


def _shape(name: str, common: dict[str, Any], **own: Any) -> Shape:
    return Shape(name=name, **(common | own))


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        _shape(
            "Llama-3.2-1B",
            _LLAMA3,
            hidden_size=2048,
            intermediate_size=8192,
            num_layers=16,
            num_heads=32,
            head_dim=64,
            rope_factor=32.0,
            is_tied=True,
        ),
        _shape(
            "Llama-3.2-3B",
            _LLAMA3,
            hidden_size=3072,
            intermediate_size=8192,
            num_layers=28,
            num_heads=24,
            head_dim=128,
            rope_factor=32.0,
            is_tied=True,
            num_seed_prompts=12,
        ),
        _shape("Llama-3.1-8B", _LLAMA31_8B, num_layers=32),
        # A slice, for comparisons with float32 that would not fit otherwise.
        _shape("Llama-3.1-8B-2layers", _LLAMA31_8B, num_layers=2),
        _shape(
            "Qwen2.5-0.5B",
            _QWEN25,
            vocab_size=151936,
            hidden_size=896,
            intermediate_size=4864,
            num_layers=24,
            num_heads=14,
            num_kv_heads=2,
            head_dim=64,
            context_length=32768,
            is_tied=True,
        ),
        _shape(
            "Qwen2.5-1.5B",
            _QWEN25,
            vocab_size=151936,
            hidden_size=1536,
            intermediate_size=8960,
            num_layers=28,
            num_heads=12,
            num_kv_heads=2,
            head_dim=128,
            is_tied=True,
        ),
        _shape(
            "Qwen2.5-7B",
            _QWEN25,
            vocab_size=152064,
            hidden_size=3584,
            intermediate_size=18944,
            num_layers=28,
            num_heads=28,
            num_kv_heads=4,
            head_dim=128,
            is_tied=False,
        ),
        _shape(
            "Qwen3-0.6B",
            _QWEN,
            family="qwen3",
            vocab_size=151936,
            hidden_size=1024,
            intermediate_size=3072,
            num_layers=28,
            num_heads=16,
            num_kv_heads=8,
            head_dim=128,
            context_length=40960,
            is_tied=True,
            eos_token_id=151645,
        ),
        # Nobody's: small enough to try the workloads out on a CPU.
        _shape(
            "tiny",
            _LLAMA3,
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=16,
            rope_factor=None,
            context_length=8192,
            is_tied=True,
            eos_token_id=256,
        ),
    )
}
