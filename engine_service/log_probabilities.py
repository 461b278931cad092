"""Log-probabilities of tokens and of the likeliest ids in their places."""

import torch

from engine_service.sequence import Logprobs


def log_probabilities(
    logits: torch.Tensor,  # [num_tokens, vocab_size] float32
    tokens: torch.Tensor,  # [num_tokens]
    num_candidates: int,
) -> torch.Tensor:  # [num_tokens, 1 + 2 * num_candidates] float32
    """The model's own log-probability of each token, the likeliest ids, and their log-probabilities, as
    one tensor so that they are one copy: a float32 holds every id below 2^24.
    """
    logprobs = logits.log_softmax(dim=-1)
    top = logprobs.topk(num_candidates, dim=-1)
    chosen = logprobs.gather(1, tokens.long().unsqueeze(1))
    return torch.cat((chosen, top.indices.float(), top.values), dim=1)


def to_logprobs(
    entries: torch.Tensor,  # [num_tokens, 1 + 2 * at least num_candidates], on the CPU
    num_candidates: int,
) -> Logprobs:
    """Entries with `num_candidates` candidates each."""
    found = (entries.shape[1] - 1) // 2
    chosen, ids, values = torch.split(entries, [1, found, found], dim=1)
    return Logprobs(
        num_candidates,
        chosen.flatten().tolist(),
        ids[:, :num_candidates].int().flatten().tolist(),
        values[:, :num_candidates].flatten().tolist(),
    )
