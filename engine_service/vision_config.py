"""What a LLaVA checkpoint says about its vision tower, projector and pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem_service.model_dir import read_json

# What `vision_config` leaves out: CLIPVisionConfig's defaults in transformers.
_CLIP_DEFAULTS: dict[str, Any] = {
    "model_type": "clip_vision_model", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
    "num_attention_heads": 12, "num_channels": 3, "image_size": 224, "patch_size": 32,
    "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip
# And where the whole of it is left out: LlavaConfig's.
_LLAVA_TOWER: dict[str, Any] = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 336, "patch_size": 14,
}  # fmt: skip
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
ACTIVATIONS = ("quick_gelu", "gelu", "gelu_pytorch_tanh")


@dataclass(frozen=True)
class Normalization:
    """From uint8 to what the tower sees: (value * rescale - mean) / std, for each of red, green, blue."""

    rescale: float = 1 / 255
    mean: tuple[float, ...] = _CLIP_MEAN
    std: tuple[float, ...] = _CLIP_STD


@dataclass(frozen=True)
class VisionConfig:
    """The shape of a CLIP vision tower and its projector.

    Attributes:
        num_layers: The layers that run: those up to the one whose output is used.
        has_class_feature: Whether the class token's output is a feature too.
        activation: One of ACTIVATIONS; the projector's is `projector_activation`.
        image_token_id: The id of placeholders.
    """

    image_size: int
    patch_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    layer_norm_eps: float
    activation: str
    has_class_feature: bool
    projector_activation: str
    has_projector_bias: bool
    image_token_id: int
    normalization: Normalization

    @property
    def num_patches(self) -> int:
        """Patches of an image; pixels that fill no patch are cut off."""
        return (self.image_size // self.patch_size) ** 2

    @property
    def num_features(self) -> int:
        """Features of an image, which are as many placeholders in a prompt."""
        return self.num_patches + self.has_class_feature

    @property
    def image_bytes(self) -> int:
        """Bytes of an image's pixels."""
        return self.image_size**2 * 3


def parse_vision_config(raw: dict[str, Any], directory: Path) -> VisionConfig:
    """Reads the fields of a LLaVA config.json, and the processor's files beside it.

    Raises:
        ValueError: A field asks for something the engine cannot serve; the message names it.
    """
    tower: dict[str, Any] = _CLIP_DEFAULTS | (raw.get("vision_config") or _LLAVA_TOWER)
    _check_tower(tower)
    _check_choice("projector_hidden_act", raw.get("projector_hidden_act", "gelu"), ACTIVATIONS)
    strategy = raw.get("vision_feature_select_strategy", "default")
    _check_choice("vision_feature_select_strategy", strategy, ("default", "full"))
    return VisionConfig(
        image_size=_side(tower, "image_size"),
        patch_size=_side(tower, "patch_size"),
        hidden_size=tower["hidden_size"],
        intermediate_size=tower["intermediate_size"],
        num_layers=_num_layers(raw.get("vision_feature_layer", -2), tower["num_hidden_layers"]),
        num_heads=tower["num_attention_heads"],
        layer_norm_eps=tower["layer_norm_eps"],
        activation=tower["hidden_act"],
        has_class_feature=strategy == "full",
        projector_activation=raw.get("projector_hidden_act", "gelu"),
        has_projector_bias=raw.get("multimodal_projector_bias", True),
        image_token_id=raw.get("image_token_id", raw.get("image_token_index", 32000)),
        normalization=_read_normalization(directory),
    )


def _check_tower(tower: dict[str, Any]) -> None:
    _check_choice("vision_config.model_type", tower["model_type"], ("clip_vision_model",))
    _check_choice("vision_config.hidden_act", tower["hidden_act"], ACTIVATIONS)
    _check_choice("vision_config.num_channels", tower["num_channels"], (3,))
    size, num_heads = tower["hidden_size"], tower["num_attention_heads"]
    if size % num_heads:
        raise ValueError(
            f"vision_config.num_attention_heads={num_heads} does not divide vision_config.hidden_size={size}"
        )
    image, patch = _side(tower, "image_size"), _side(tower, "patch_size")
    if not 0 < patch <= image:
        raise ValueError(f"vision_config.patch_size={patch} is not in [1, image_size={image}]")


def _check_choice(field: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        supported = ", ".join(map(repr, choices))
        raise ValueError(f"{field}={value!r} is not supported; supported: {supported}")


def _side(tower: dict[str, Any], name: str) -> int:
    """A side in pixels, written as one number or as two that are equal."""
    value = tower[name]
    sides = set(value) if isinstance(value, list) else {value}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int):
        raise ValueError(f"vision_config.{name}={value} is not supported; supported are squares")
    return side


def _num_layers(feature_layer: Any, num_layers: int) -> int:
    """How many layers run; layer 0 is what enters the first one, negative numbers count from the last."""
    if not isinstance(feature_layer, int):
        raise ValueError(f"vision_feature_layer={feature_layer} is not supported; supported is one layer")
    count = feature_layer if feature_layer >= 0 else num_layers + 1 + feature_layer
    if not 0 <= count <= num_layers:
        raise ValueError(f"vision_feature_layer={feature_layer}: the tower has {num_layers} layers")
    return count


def _read_normalization(directory: Path) -> Normalization:
    """Of the image part of processor_config.json, or of preprocessor_config.json; CLIP's by default."""
    nested = read_json(directory / "processor_config.json").get("image_processor")
    raw = nested or read_json(directory / "preprocessor_config.json")
    default = Normalization()
    is_plain = not raw.get("do_normalize", True)
    return Normalization(
        rescale=raw.get("rescale_factor", default.rescale) if raw.get("do_rescale", True) else 1.0,
        mean=(0.0,) * 3 if is_plain else _three("image_mean", raw.get("image_mean") or default.mean),
        std=(1.0,) * 3 if is_plain else _three("image_std", raw.get("image_std") or default.std),
    )


def _three(field: str, value: Any) -> tuple[float, ...]:
    if len(value) != 3:
        raise ValueError(f"{field}={value}: must be three numbers")
    return tuple(map(float, value))
