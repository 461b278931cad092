"""Drawing batches from the training rows, on the device."""

from collections.abc import Iterator
from random import Random

import torch

from tandem_demo.text.packing import Rows


class Batches:
    """Endless batches of about `batch_tokens` places, all rows of a batch of one length.

    Lengths are drawn in proportion to their places; the rows of a length come in a new order in each epoch.
    """

    def __init__(self, rows: dict[int, Rows], batch_tokens: int, seed: int, device: torch.device) -> None:
        self.lengths = [length for length, group in rows.items() if len(group.ids)]
        self.num_rows = {length: max(1, batch_tokens // length) for length in self.lengths}
        self._places = [rows[length].ids.size for length in self.lengths]
        self._ids = {length: torch.from_numpy(rows[length].ids).to(device) for length in self.lengths}
        self._marks = {length: torch.from_numpy(rows[length].marks).to(device) for length in self.lengths}
        self._rng = Random(seed)
        self._shuffle = torch.Generator(device="cpu").manual_seed(seed)
        self._device = device

    def batch(self, length: int, order: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The ids (int64) and marks (uint8) of the rows in `order`, both [num_rows, length]."""
        return self._ids[length][order].long(), self._marks[length][order]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        orders = {length: self._orders(length) for length in self.lengths}
        while True:
            length = self._rng.choices(self.lengths, self._places)[0]
            yield self.batch(length, next(orders[length]))

    def one_of_each(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One batch of each length, for warming up."""
        for length in self.lengths:
            yield self.batch(length, next(self._orders(length)))

    def _orders(self, length: int) -> Iterator[torch.Tensor]:
        total, num_rows = len(self._ids[length]), self.num_rows[length]
        waiting = torch.empty(0, dtype=torch.long)
        while True:
            while len(waiting) < num_rows:
                waiting = torch.cat((waiting, torch.randperm(total, generator=self._shuffle)))
            yield waiting[:num_rows].to(self._device)
            waiting = waiting[num_rows:]
