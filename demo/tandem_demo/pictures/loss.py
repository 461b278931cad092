"""The forward pass in training and its loss, in compiled pieces: a layer of each kind and the head.

All rows have one shape: begin, user, the picture's patches, then the text with padding at its end. Plain
causal attention needs no mask: nothing before the padding sees it, and the padding's own loss has weight 0.

Besides the answers, the vision tower learns to say what lies in each patch (kind and colour of the item),
through a linear map that is thrown away after training. It makes the tower see early; from answers alone it
takes longer to find out that the picture matters.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlavaForConditionalGeneration

from tandem_demo.pictures.model import VISION_WIDTH
from tandem_demo.pictures.pool import Batch
from tandem_demo.pictures.processor import IMAGE_MEAN, IMAGE_STD
from tandem_demo.pictures.rows import NUM_COLOUR_LABELS, NUM_KIND_LABELS
from tandem_demo.pictures.tokenizer import BEGIN_ID, ROLE_IDS

PATCH_WEIGHT = 0.3
"""Of the patches' loss, beside 1 for the answers'."""


class PatchHead(nn.Module):
    """What lies in each patch, from its features."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(VISION_WIDTH)
        self.classes = nn.Linear(VISION_WIDTH, NUM_KIND_LABELS + NUM_COLOUR_LABELS)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features [.., VISION_WIDTH] to logits [.., NUM_KIND_LABELS + NUM_COLOUR_LABELS]."""
        logits: torch.Tensor = self.classes(self.norm(features))
        return logits


def run_vision_layer(layer: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """One layer of the tower; `hidden` [num_rows, 1 + num_patches, VISION_WIDTH]."""
    output: torch.Tensor = layer(hidden, attention_mask=None)
    return output


def run_text_layer(
    layer: nn.Module, hidden: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> torch.Tensor:
    """One decoder layer with causal attention; `hidden` [num_rows, row_length, TEXT_WIDTH]."""
    output: torch.Tensor = layer(hidden, attention_mask=None, position_embeddings=(cos, sin))
    return output


def answer_losses(
    hidden: torch.Tensor,  # [num_rows, text_length, TEXT_WIDTH], at the places before the text's ids
    head: torch.Tensor,  # [VOCAB_SIZE, TEXT_WIDTH]
    ids: torch.Tensor,  # [num_rows, text_length]
    learnt: torch.Tensor,  # [num_rows, text_length]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The answers' mean loss [], and which of the ids would be written greedily [num_rows, text_length]."""
    logits = F.linear(hidden, head).float()
    losses = F.cross_entropy(logits.flatten(0, 1), ids.flatten(), reduction="none")
    weights = learnt.flatten().float()
    return (losses * weights).sum() / weights.sum(), logits.argmax(-1) == ids


def patch_loss(logits: torch.Tensor, kinds: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """Mean loss of the patches' kinds and colours, both [num_rows, num_patches]."""
    flat = logits.float().flatten(0, 1)
    kind_logits, colour_logits = flat[:, :NUM_KIND_LABELS], flat[:, NUM_KIND_LABELS:]
    return F.cross_entropy(kind_logits, kinds.flatten()) + F.cross_entropy(colour_logits, colours.flatten())


class Learner:
    """The model with its patch head, and the loss of a batch."""

    def __init__(self, model: LlavaForConditionalGeneration, compiled: bool) -> None:
        self.model: Any = model
        self.device = next(model.parameters()).device
        self.patch_head = PatchHead().to(self.device)
        fast: Callable[[Any], Any] = (lambda step: torch.compile(step, dynamic=False)) if compiled else _as_is
        self._vision_layer, self._text_layer = fast(run_vision_layer), fast(run_text_layer)
        self._answers, self._patches = fast(answer_losses), fast(patch_loss)
        self._mean = torch.tensor(IMAGE_MEAN, device=self.device).view(1, 3, 1, 1)
        self._std = torch.tensor(IMAGE_STD, device=self.device).view(1, 3, 1, 1)
        self._opening = torch.tensor([BEGIN_ID, ROLE_IDS["user"]], device=self.device)

    def parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        both = [*self.model.parameters(), *self.patch_head.parameters()]
        return [parameter for parameter in both if parameter.requires_grad]

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The answers' loss [], the patches' loss [], and where the text is right [num_rows, text_length]."""
        features = self._see(batch.pixels)
        hidden = self._read(features, batch.ids)
        answers, right = self._answers(hidden, self.model.lm_head.weight, batch.ids, batch.learnt)
        return answers, self._patches(self.patch_head(features), batch.kinds, batch.colours), right

    def _see(self, pixels: torch.Tensor) -> torch.Tensor:
        """The patches' features [num_rows, num_patches, VISION_WIDTH], before the tower's last layer."""
        tower = self.model.model.vision_tower
        values = pixels.permute(0, 3, 1, 2).float() / 255
        hidden = tower.pre_layrnorm(tower.embeddings((values - self._mean) / self._std))
        for layer in tower.encoder.layers[:-1]:
            hidden = self._vision_layer(layer, hidden)
        features: torch.Tensor = hidden[:, 1:]
        return features

    def _read(self, features: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Hidden states from which each id of the text is predicted, [num_rows, text_length, TEXT_WIDTH]."""
        llama = self.model.model.language_model
        patches = self.model.model.multi_modal_projector(features)
        opening = llama.embed_tokens(self._opening).expand(len(ids), -1, -1).to(patches.dtype)
        text = llama.embed_tokens(ids[:, :-1]).to(patches.dtype)
        hidden = torch.cat((opening, patches, text), dim=1).float()
        positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        cos, sin = llama.rotary_emb(hidden, positions)
        for layer in llama.layers:
            hidden = self._text_layer(layer, hidden, cos, sin)
        normed: torch.Tensor = llama.norm(hidden[:, -ids.shape[1] :])
        return normed


def _as_is(step: Any) -> Any:
    return step
