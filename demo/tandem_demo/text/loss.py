"""The training loss, in two compiled pieces: a layer (shared by all layers) and the head.

Rows hold one conversation each with padding at the end, so plain causal attention needs no mask: no token
before the padding can see it, and the padding's own loss has weight 0.
"""

from collections.abc import Callable

import torch
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from tandem_demo.text.packing import ANSWER_MARK, PROMPT_MARK

# Prompts are partly random strings; a little of their loss teaches the embeddings, much of it is noise.
PROMPT_WEIGHT = 0.03

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def run_layer(
    layer: torch.nn.Module,
    hidden: torch.Tensor,  # [num_rows, row_length, hidden_size]
    cos: torch.Tensor,  # [1, row_length, head_dim]
    sin: torch.Tensor,  # [1, row_length, head_dim]
) -> torch.Tensor:  # [num_rows, row_length, hidden_size]
    """One decoder layer with causal attention."""
    output: torch.Tensor = layer(hidden, attention_mask=None, position_embeddings=(cos, sin))
    return output


def weighted_loss(
    hidden: torch.Tensor,  # [num_rows, row_length, hidden_size]
    head: torch.Tensor,  # [vocab_size, hidden_size]
    ids: torch.Tensor,  # [num_rows, row_length]
    marks: torch.Tensor,  # [num_rows, row_length]
) -> torch.Tensor:  # []
    """Cross entropy of each next id, weighted by what the id is."""
    logits = F.linear(hidden, head).float()
    targets, next_marks = torch.roll(ids, -1, dims=1), torch.roll(marks, -1, dims=1)
    weights = (next_marks == ANSWER_MARK).float() + PROMPT_WEIGHT * (next_marks == PROMPT_MARK).float()
    # The last place of a row has no next id: what was rolled in there is the row's first.
    weights = F.pad(weights[:, :-1], (0, 1))
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    weights = weights.flatten()
    return (losses * weights).sum() / weights.sum()


def make_loss(model: LlamaForCausalLM, compiled: bool) -> Loss:
    """The loss of a batch (ids and marks, both [num_rows, row_length]), optionally through torch.compile."""
    layer_step, head_step = run_layer, weighted_loss
    if compiled:
        layer_step = torch.compile(run_layer, dynamic=False)
        head_step = torch.compile(weighted_loss, dynamic=False)

    def loss(ids: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
        hidden = model.model.embed_tokens(ids)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        cos, sin = model.model.rotary_emb(hidden, positions)
        for layer in model.model.layers:
            hidden = layer_step(layer, hidden, cos, sin)
        return head_step(model.model.norm(hidden), model.lm_head.weight, ids, marks)

    return loss
