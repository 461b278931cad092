"""CLIP's vision transformer, up to the layer whose output a language model sees."""

import torch
from torch import nn
from torch.nn import functional as F

from engine_service.layers.parameter import parameter
from engine_service.layers.vision_layer import LayerNorm, VisionLayer
from engine_service.vision_config import VisionConfig


class VisionTower(nn.Module):
    """Patches, a class token, learned positions, a norm, layers (Radford et al., 2021)."""

    def __init__(self, config: VisionConfig, device: torch.device) -> None:
        """Weights are uninitialized, of the default type, on `device`."""
        super().__init__()
        with device:
            self.has_class_feature = config.has_class_feature
            self.patch_size = config.patch_size
            self.grid_size = config.image_size // config.patch_size
            self.patch_weight = parameter(config.hidden_size, 3, config.patch_size, config.patch_size)
            self.class_embedding = parameter(config.hidden_size)
            self.position_embedding = parameter(config.num_patches + 1, config.hidden_size)
            self.input_norm = LayerNorm(config)
            self.layers = nn.ModuleList(VisionLayer(config) for _ in range(config.num_layers))
            # For red, green and blue: what normalization multiplies by, and then adds.
            normal = config.normalization
            scales = [normal.rescale / std for std in normal.std]
            shifts = [-mean / std for mean, std in zip(normal.mean, normal.std, strict=True)]
            self.scale = torch.tensor(scales, dtype=torch.float32)
            self.shift = torch.tensor(shifts, dtype=torch.float32)

    def forward(
        self,
        pixels: torch.Tensor,  # [num_images, image_size, image_size, 3] uint8
    ) -> torch.Tensor:  # [num_images, num_features, hidden_size]
        """The features of each image, in reading order."""
        patches = F.linear(self._patches(pixels), self.patch_weight.flatten(1))
        class_token = self.class_embedding.expand(len(pixels), 1, -1)
        places = torch.cat((class_token, patches), dim=1)
        added = self.input_norm(places + self.position_embedding)
        residual = torch.zeros_like(added)
        for layer in self.layers:
            added = layer(added, residual)
        residual += added
        return residual if self.has_class_feature else residual[:, 1:]

    def _patches(
        self,
        pixels: torch.Tensor,  # [num_images, image_size, image_size, 3] uint8
    ) -> torch.Tensor:  # [num_images, num_patches, 3 * patch_size * patch_size]
        """Normalized patches. CLIP's convolution never sees a pixel twice, so it is a projection of these;
        as one it is exact in float32, where convolutions on a GPU are not.
        """
        patch, grid = self.patch_size, self.grid_size
        side = grid * patch
        images = pixels[:, :side, :side] * self.scale + self.shift
        tiles = images.to(self.patch_weight.dtype).reshape(-1, grid, patch, grid, patch, 3)
        return tiles.permute(0, 1, 3, 5, 2, 4).reshape(len(pixels), grid * grid, -1)

    def checkpoint_tensors(self, prefix: str) -> dict[str, torch.Tensor]:
        """Where each tensor of the checkpoint goes, by its name there."""
        tensors: dict[str, torch.Tensor] = {
            f"{prefix}.embeddings.patch_embedding.weight": self.patch_weight,
            f"{prefix}.embeddings.class_embedding": self.class_embedding,
            f"{prefix}.embeddings.position_embedding.weight": self.position_embedding,
            **self.input_norm.checkpoint_tensors(f"{prefix}.pre_layrnorm"),
        }
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, VisionLayer)
            tensors |= layer.checkpoint_tensors(f"{prefix}.encoder.layers.{index}")
        return tensors
