"""Attention written down plainly in float64, and sequences in a block pool to compare with it."""

import torch

from support.kernel_checks import random_tensor


def naive_attention(
    q: torch.Tensor,  # [Q, H, D]
    k: torch.Tensor,  # [K, G, D]
    v: torch.Tensor,  # [K, G, D]
    first_position: int,
) -> torch.Tensor:  # [Q, H, D] float64
    """Causal attention of one sequence, whose queries stand at `first_position` and on."""
    group = q.shape[1] // k.shape[1]
    keys, values = (x.double().repeat_interleave(group, dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.double(), keys) / q.shape[2] ** 0.5
    positions = first_position + torch.arange(q.shape[0], device=q.device)
    is_hidden = torch.arange(k.shape[0], device=q.device) > positions[:, None]
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(is_hidden, float("-inf")).softmax(-1), values)


class PagedSequences:
    """Random keys and values, scattered over a block pool.

    Attributes:
        k_cache: [num_blocks, block_size, num_kv_heads, head_dim].
        v_cache: The same shape.
        block_tables: [num_seqs + 1, max_blocks] int32, padded with 0.
        rows: [num_seqs] int32, each sequence's row of block_tables, in no order.
        keys: One tensor [length, num_kv_heads, head_dim] a sequence.
        values: The same shapes.
    """

    def __init__(
        self,
        lengths: list[int],
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        seed: int = 10,
        unused: float = float("nan"),
    ) -> None:
        """`unused` is what slots hold that belong to no sequence."""
        counts = [-(-length // block_size) for length in lengths]
        order = torch.randperm(sum(counts) + 3, generator=torch.Generator().manual_seed(seed)).tolist()
        shape = (len(order), block_size, num_kv_heads, head_dim)
        self.k_cache = torch.full(shape, unused, dtype=dtype, device=device)
        self.v_cache = self.k_cache.clone()
        self.rows = torch.arange(len(lengths), 0, -1, dtype=torch.int32, device=device)
        self.block_tables = torch.zeros(len(lengths) + 1, max(1, *counts), dtype=torch.int32, device=device)
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        for index, (length, count) in enumerate(zip(lengths, counts, strict=True)):
            blocks = torch.tensor([order.pop() for _ in range(count)], dtype=torch.int64, device=device)
            self.block_tables[self.rows[index], :count] = blocks.int()
            offsets = torch.arange(block_size, device=device)
            slots = (blocks[:, None] * block_size + offsets).flatten()[:length]
            for found, cache, part in ((self.keys, self.k_cache, 0), (self.values, self.v_cache, 1000)):
                rows = (length, num_kv_heads, head_dim)
                found.append(random_tensor(*rows, dtype=dtype, seed=seed + part + index, device=device))
                cache.view(-1, num_kv_heads, head_dim)[slots] = found[-1]

    @property
    def cache(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the attention operations take of it."""
        return self.k_cache, self.v_cache, self.block_tables, self.rows
