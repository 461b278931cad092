"""What a checkpoint's config.json says, checked against what the engine can serve."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine_service.vision_config import VisionConfig, parse_vision_config
from tandem_service.model_dir import read_json


@dataclass(frozen=True)
class AttentionKind:
    """Where the architectures of the Llama family differ.

    Attributes:
        has_qkv_bias: Whether query, key and value have biases.
        has_qk_norm: Whether each head of query and key is normalized before the rotation.
    """

    has_qkv_bias: bool = False
    has_qk_norm: bool = False


ARCHITECTURES = {
    "LlamaForCausalLM": AttentionKind(),
    "MistralForCausalLM": AttentionKind(),
    "Qwen2ForCausalLM": AttentionKind(has_qkv_bias=True),
    "Qwen3ForCausalLM": AttentionKind(has_qk_norm=True),
}
LLAVA = "LlavaForConditionalGeneration"
# What `text_config` leaves out: LlamaConfig's defaults in transformers.
_LLAMA_DEFAULTS = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 32000, "hidden_size": 4096,
    "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
    "max_position_embeddings": 2048,
}  # fmt: skip


@dataclass(frozen=True)
class RopeScaling:
    """The llama3 rule, which stretches low frequencies; see `layers/rotary.py`."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context_length: int


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a decoder-only language model, and of the vision tower before it where it has one.

    Attributes:
        architecture: The class name in the checkpoint.
        context_length: The most positions.
        dtype: The type of the weights in the checkpoint, for example "bfloat16".
        vision: The tower; None for a model of text only.
    """

    architecture: str
    attention: AttentionKind
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    context_length: int
    is_tied: bool
    dtype: str
    vision: VisionConfig | None = None


def read_model_config(directory: Path) -> ModelConfig:
    """Reads config.json, and for a model with vision the image processor's files.

    Raises:
        ValueError: The file is missing, or a field asks for something the engine cannot serve; the
            message names the field.
    """
    path = directory / "config.json"
    if not path.exists():
        raise ValueError(f"{path}: no such file; is this a Hugging Face model directory?")
    raw = read_json(path)
    try:
        return _parse_llava(raw, directory) if raw.get("architectures") == [LLAVA] else _parse(raw)
    except KeyError as error:
        raise ValueError(f"{path}: field {error.args[0]} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def num_image_slots(config: ModelConfig, num_bytes: int, itemsize: int) -> int:
    """Images whose projected features fit into `num_bytes`; 0 for a model of text only.

    Raises:
        ValueError: Not one does.
    """
    if config.vision is None:
        return 0
    image_bytes = config.vision.num_features * config.hidden_size * itemsize
    if num_bytes < image_bytes:
        raise ValueError(
            f"image_cache_mib={num_bytes >> 20}: the features of one image take {image_bytes / 2**20:.1f} MiB"
        )
    return num_bytes // image_bytes


def _parse_llava(raw: dict[str, Any], directory: Path) -> ModelConfig:
    text = raw.get("text_config") or {}
    if text.get("model_type", "llama") != "llama":
        raise ValueError(
            f"text_config.model_type={text['model_type']!r} is not supported; supported: 'llama'"
        )
    dtype = raw.get("dtype") or raw.get("torch_dtype") or text.get("dtype") or text.get("torch_dtype")
    inherited = {
        "dtype": dtype,
        "quantization_config": raw.get("quantization_config") or text.get("quantization_config"),
        "tie_word_embeddings": raw.get("tie_word_embeddings") or text.get("tie_word_embeddings", False),
    }
    vision = parse_vision_config(raw, directory)
    try:
        config = _parse(_LLAMA_DEFAULTS | text | inherited)
    except ValueError as error:
        raise ValueError(f"text_config.{error}") from None
    if not 0 <= vision.image_token_id < config.vocab_size:
        raise ValueError(
            f"image_token_index={vision.image_token_id} is not below text_config.vocab_size="
            f"{config.vocab_size}"
        )
    return replace(config, architecture=LLAVA, vision=vision)


def _parse(raw: dict[str, Any]) -> ModelConfig:
    architecture = _architecture(raw)
    _refuse_unsupported(raw, architecture)
    num_heads = raw["num_attention_heads"]
    num_kv_heads = raw.get("num_key_value_heads") or num_heads
    if num_heads % num_kv_heads:
        raise ValueError(
            f"num_key_value_heads={num_kv_heads} does not divide num_attention_heads={num_heads}"
        )
    head_dim = raw.get("head_dim") or raw["hidden_size"] // num_heads
    if head_dim % 2:
        raise ValueError(f"head_dim={head_dim} is odd; rotary embeddings need pairs")
    rope = _rope_parameters(raw)
    return ModelConfig(
        architecture=architecture,
        attention=ARCHITECTURES[architecture],
        vocab_size=raw["vocab_size"],
        hidden_size=raw["hidden_size"],
        intermediate_size=raw["intermediate_size"],
        num_layers=raw["num_hidden_layers"],
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        rms_norm_eps=raw.get("rms_norm_eps", 1e-6),
        rope_theta=float(rope.get("rope_theta", raw.get("rope_theta", 10000.0))),
        rope_scaling=_rope_scaling(rope),
        context_length=raw["max_position_embeddings"],
        is_tied=raw.get("tie_word_embeddings", False),
        dtype=raw.get("dtype") or raw.get("torch_dtype") or "float32",
    )


def _architecture(raw: dict[str, Any]) -> str:
    names = raw.get("architectures") or []
    if len(names) != 1 or names[0] not in ARCHITECTURES:
        supported = sorted([*ARCHITECTURES, LLAVA])
        raise ValueError(f"architectures={names} is not supported; supported are {supported}")
    return str(names[0])


def _refuse_unsupported(raw: dict[str, Any], architecture: str) -> None:
    if raw.get("quantization_config"):
        method = raw["quantization_config"].get("quant_method", "unknown")
        raise ValueError(
            f"quantization_config.quant_method={method!r}: quantized checkpoints are not supported"
        )
    if raw.get("hidden_act", "silu") != "silu":
        raise ValueError(f"hidden_act={raw['hidden_act']!r} is not supported; supported is 'silu'")
    for name in ("attention_bias", "mlp_bias"):
        if raw.get(name) and not ARCHITECTURES[architecture].has_qkv_bias:
            raise ValueError(f"{name}=true is not supported for {architecture}")
    _refuse_sliding_window(raw)


def _refuse_sliding_window(raw: dict[str, Any]) -> None:
    layers = sorted(set(raw.get("layer_types") or []) - {"full_attention"})
    if layers:
        raise ValueError(f"layer_types has {layers}; supported is only 'full_attention'")
    window = raw.get("sliding_window")
    is_used = raw.get("use_sliding_window", True)
    if window and is_used and window < raw["max_position_embeddings"]:
        raise ValueError(f"sliding_window={window} is in use, which is not supported")


def _rope_parameters(raw: dict[str, Any]) -> dict[str, Any]:
    """The rope fields, of transformers 5 (`rope_parameters`) or before (`rope_scaling`)."""
    rope = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    factor = rope.get("partial_rotary_factor", raw.get("partial_rotary_factor", 1.0))
    if factor != 1.0:
        raise ValueError(f"partial_rotary_factor={factor} is not supported; supported is 1.0")
    return dict(rope)


def _rope_scaling(rope: dict[str, Any]) -> RopeScaling | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind != "llama3":
        raise ValueError(f"rope_type={kind!r} is not supported; supported are 'default' and 'llama3'")
    return RopeScaling(
        factor=rope["factor"],
        low_freq_factor=rope["low_freq_factor"],
        high_freq_factor=rope["high_freq_factor"],
        original_context_length=rope["original_max_position_embeddings"],
    )
