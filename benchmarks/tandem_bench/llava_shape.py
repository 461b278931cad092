"""The shape of a LLaVA-1.5: a CLIP vision tower, a projector and a language model."""

from dataclasses import dataclass
from typing import Any

from tandem_bench.shape import Shape


@dataclass(frozen=True)
class TowerShape:
    """A CLIP vision tower; the values are those of the published `vision_config`."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    image_size: int
    patch_size: int
    projection_dim: int

    @property
    def num_patches(self) -> int:
        """Patches of an image, each of which becomes a feature."""
        return (self.image_size // self.patch_size) ** 2

    def config(self) -> dict[str, Any]:
        """The content of `vision_config`."""
        return {
            "model_type": "clip_vision_model",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "projection_dim": self.projection_dim,
        }

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, by its name in the tower."""
        size = self.hidden_size
        found: dict[str, tuple[int, ...]] = {
            "embeddings.class_embedding": (size,),
            "embeddings.patch_embedding.weight": (size, 3, self.patch_size, self.patch_size),
            "embeddings.position_embedding.weight": (self.num_patches + 1, size),
        }
        for name in ("pre_layrnorm", "post_layernorm"):
            found |= {f"{name}.weight": (size,), f"{name}.bias": (size,)}
        for layer in range(self.num_layers):
            found |= {
                f"encoder.layers.{layer}.{name}": shape for name, shape in self._layer_tensors().items()
            }
        return found

    def _layer_tensors(self) -> dict[str, tuple[int, ...]]:
        size, inner = self.hidden_size, self.intermediate_size
        found: dict[str, tuple[int, ...]] = {}
        for name in ("layer_norm1", "layer_norm2"):
            found |= {f"{name}.weight": (size,), f"{name}.bias": (size,)}
        linear = {f"self_attn.{name}_proj": (size, size) for name in ("q", "k", "v", "out")}
        linear |= {"mlp.fc1": (inner, size), "mlp.fc2": (size, inner)}
        for name, shape in linear.items():
            found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        return found


@dataclass(frozen=True, kw_only=True)
class LlavaShape(Shape):
    """A model that sees: the fields of `Shape` are those of its language model.

    Attributes:
        image_token_id: Of placeholders; prompts of random ids stay below it.
        feature_layer: Whose output the language model sees, counted from the tower's last one, -1.
    """

    tower: TowerShape
    image_token_id: int
    feature_layer: int = -2

    @property
    def num_tower_layers(self) -> int:
        """Layers of the tower that run."""
        return self.tower.num_layers + 1 + self.feature_layer

    @property
    def special_tokens(self) -> dict[int, str]:
        """Those of the language model, and the placeholder."""
        return super().special_tokens | {self.image_token_id: "<image>"}

    def config(self) -> dict[str, Any]:
        """The content of config.json."""
        return {
            "architectures": ["LlavaForConditionalGeneration"],
            "model_type": "llava",
            "text_config": super().config(),
            "vision_config": self.tower.config(),
            "vision_feature_layer": self.feature_layer,
            "vision_feature_select_strategy": "default",
            "projector_hidden_act": "gelu",
            "image_token_index": self.image_token_id,
            "eos_token_id": self.eos_token_id,
            "tie_word_embeddings": self.is_tied,
            "torch_dtype": "bfloat16",
        }

    def files(self) -> dict[str, dict[str, Any]]:
        """config.json, and how pictures become pixels."""
        return super().files() | {"preprocessor_config.json": self._preprocessor()}

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor of the checkpoint, by its published name."""
        vision, text = self.tower.hidden_size, self.hidden_size
        found = {f"language_model.{name}": shape for name, shape in self.language_tensors().items()}
        found |= {f"vision_tower.vision_model.{name}": shape for name, shape in self.tower.tensors().items()}
        for name, size in (("linear_1", vision), ("linear_2", text)):
            found[f"multi_modal_projector.{name}.weight"] = (text, size)
            found[f"multi_modal_projector.{name}.bias"] = (text,)
        return found

    def _preprocessor(self) -> dict[str, Any]:
        """CLIP's."""
        side = self.tower.image_size
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": side},
            "resample": 3,
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711],
        }


def seeing(shape: Shape) -> LlavaShape:
    """A shape that has to have a vision tower.

    Raises:
        ValueError: It has none.
    """
    if not isinstance(shape, LlavaShape):
        raise ValueError(f"{shape.name} sees nothing; take --shape LLaVA-1.5-7B")
    return shape
