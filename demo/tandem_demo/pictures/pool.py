"""Rows on the device: a pool that grows while rows are made, and batches drawn from it."""

from dataclasses import dataclass
from typing import Any

import torch

from tandem_demo.pictures.rows import Rows, row_shapes


@dataclass(frozen=True)
class Batch:
    """Some rows on the device."""

    pixels: torch.Tensor  # [num_rows, side, side, 3], uint8
    ids: torch.Tensor  # [num_rows, text_length], int64
    learnt: torch.Tensor  # [num_rows, text_length], bool
    kinds: torch.Tensor  # [num_rows, num_patches], int64
    colours: torch.Tensor  # [num_rows, num_patches], int64

    def __len__(self) -> int:
        return len(self.ids)


class Pool:
    """The latest `capacity` rows; a full pool forgets the oldest."""

    def __init__(self, capacity: int, seed: int, device: torch.device) -> None:
        self._arrays = {
            name: torch.empty(shape, dtype=torch.int16 if name == "ids" else torch.uint8, device=device)
            for name, (shape, _) in row_shapes(capacity).items()
        }
        self._capacity, self._device = capacity, device
        self._random = torch.Generator(device=device).manual_seed(seed)
        self._copies = _new_stream(device) if device.type == "cuda" else None
        self.num_added = 0

    @property
    def num_rows(self) -> int:
        """How many rows it holds."""
        return min(self.num_added, self._capacity)

    def add(self, rows: Rows) -> None:
        """Copy rows to the device; on return `rows` may be overwritten."""
        if self._copies is None:
            self._copy(rows)
        else:
            # A copy from unpinned memory waits for its stream's earlier work: not for the training's.
            with torch.cuda.stream(self._copies):
                self._copy(rows)
            torch.cuda.current_stream(self._device).wait_stream(self._copies)
        self.num_added += len(rows)

    def _copy(self, rows: Rows) -> None:
        places = (torch.arange(len(rows)) + self.num_added) % self._capacity
        first, num_first = int(places[0]), min(len(rows), self._capacity - int(places[0]))
        for name, array in self._arrays.items():
            source = torch.from_numpy(getattr(rows, name))
            array[first : first + num_first].copy_(source[:num_first])
            array[: len(rows) - num_first].copy_(source[num_first:])

    def batch(self, num_rows: int) -> Batch:
        """Rows drawn at random."""
        order = torch.randint(self.num_rows, (num_rows,), generator=self._random, device=self._device)
        return as_batch({name: array[order] for name, array in self._arrays.items()})


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    make: Any = torch.cuda.Stream
    stream: torch.cuda.Stream = make(device)
    return stream


def to_device(rows: Rows, device: torch.device) -> Batch:
    """All of the rows as one batch."""
    return as_batch({name: torch.from_numpy(getattr(rows, name)).to(device) for name in row_shapes(1)})


def as_batch(arrays: dict[str, torch.Tensor]) -> Batch:
    """With the types that the loss takes."""
    return Batch(
        arrays["pixels"],
        arrays["ids"].long(),
        arrays["learnt"].bool(),
        arrays["kinds"].long(),
        arrays["colours"].long(),
    )


def part(batch: Batch, start: int, stop: int) -> Batch:
    """Rows `start` to `stop`."""
    return Batch(
        batch.pixels[start:stop],
        batch.ids[start:stop],
        batch.learnt[start:stop],
        batch.kinds[start:stop],
        batch.colours[start:stop],
    )
