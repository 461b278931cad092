"""LLaVA-1.5: a vision tower, a projector, and a language model that reads features as if they were tokens."""

import torch
from torch import nn
from torch.nn import functional as F

from engine_service.layers.activation import ACTIVATIONS
from engine_service.layers.parameter import parameter
from engine_service.model_config import ModelConfig
from engine_service.models.decoder import Decoder
from engine_service.models.vision_tower import VisionTower
from engine_service.vision_config import VisionConfig

TOWER, PROJECTOR = "vision_tower", "multi_modal_projector"
# Prefixes of a name in a checkpoint and what stands for them here. transformers writes its modules'
# names, and those of its earlier versions; hubs have both.
_PREFIXES = (
    ("model.language_model.", "model."),
    ("language_model.model.", "model."),
    ("language_model.lm_head.", "lm_head."),
    (f"model.{TOWER}.vision_model.", f"{TOWER}."),
    (f"{TOWER}.vision_model.", f"{TOWER}."),
    (f"model.{TOWER}.", f"{TOWER}."),
    (f"model.{PROJECTOR}.", f"{PROJECTOR}."),
)


class Projector(nn.Module):
    """From the tower's features to the language model's hidden size: out(activation(in(x)))."""

    def __init__(self, config: VisionConfig, hidden_size: int, device: torch.device) -> None:
        """Weights are uninitialized, of the default type, on `device`."""
        super().__init__()
        with device:
            self.activation = ACTIVATIONS[config.projector_activation]
            self.in_weight = parameter(hidden_size, config.hidden_size)
            self.out_weight = parameter(hidden_size, hidden_size)
            self.in_bias = parameter(hidden_size) if config.has_projector_bias else None
            self.out_bias = parameter(hidden_size) if config.has_projector_bias else None

    def forward(
        self,
        features: torch.Tensor,  # [..., vision hidden_size]
    ) -> torch.Tensor:  # [..., hidden_size]
        """Projects each feature on its own."""
        inner = self.activation(F.linear(features, self.in_weight, self.in_bias))
        return F.linear(inner, self.out_weight, self.out_bias)

    def checkpoint_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by its name there."""
        tensors: dict[str, torch.Tensor] = {
            f"{prefix}.linear_1.weight": self.in_weight,
            f"{prefix}.linear_2.weight": self.out_weight,
        }
        if self.in_bias is not None and self.out_bias is not None:
            tensors |= {f"{prefix}.linear_1.bias": self.in_bias, f"{prefix}.linear_2.bias": self.out_bias}
        return tensors


class Llava(nn.Module):
    """The three parts, and between them the features of images, which are rows of the embedding table.

    Attributes:
        features: [num_images, num_features, hidden_size], a view of those rows: the image cache.
    """

    def __init__(self, config: ModelConfig, device: torch.device, num_images: int) -> None:
        """Weights are uninitialized, of the default type, on `device`; room for features of `num_images`."""
        super().__init__()
        vision = config.vision
        assert vision is not None
        self.num_layers = vision.num_layers
        self.image_size = vision.image_size
        self.vision_tower = VisionTower(vision, device)
        self.projector = Projector(vision, config.hidden_size, device)
        self.language_model = Decoder(config, device, num_images * vision.num_features)
        rows = self.language_model.embedding_weight.data[config.vocab_size :]
        self.features = rows.view(num_images, vision.num_features, config.hidden_size)

    def see(
        self,
        pixels: torch.Tensor,  # [num_images, image_size, image_size, 3] uint8
        slots: torch.Tensor,  # [num_images] int64
    ) -> None:
        """Writes the features of a batch of images to their slots. Allocates nothing that outlives it, so
        that it can be captured for each size of a batch.
        """
        self.features.index_copy_(0, slots, self.projector(self.vision_tower(pixels)))

    def checkpoint_tensors(self) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by the name that `checkpoint_name` gives it."""
        tensors = self.vision_tower.checkpoint_tensors(TOWER) | self.projector.checkpoint_tensors(PROJECTOR)
        return self.language_model.checkpoint_tensors() | tensors

    def checkpoint_name(self, stored: str) -> str | None:
        """The one name of a tensor that checkpoints store under several; None for what never runs."""
        for prefix, replacement in _PREFIXES:
            if stored.startswith(prefix):
                stored = replacement + stored.removeprefix(prefix)
                break
        if stored.startswith((f"{TOWER}.post_layernorm.", f"{TOWER}.embeddings.position_ids")):
            return None
        layers = f"{TOWER}.encoder.layers."
        if stored.startswith(layers) and int(stored.removeprefix(layers).split(".")[0]) >= self.num_layers:
            return None
        return stored
