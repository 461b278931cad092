"""Making training rows in parallel processes, while the model trains. No torch here.

The processes write into memory that they share with the trainer, so no pixels pass through a pipe: a slot
holds one chunk of rows, its number is passed on when it is full and comes back when it has been read. The
memory is anonymous and inherited by forking: nothing depends on the size of /dev/shm. Fork before torch is
imported.
"""

import mmap
import multiprocessing
import os
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue

import numpy as np
from tokenizers import Tokenizer

from tandem_demo.pictures.rows import Rows, fill_rows, row_shapes, training_rng

ROWS_A_CHUNK = 512
_ALIGNMENT = 64


class SharedRows:
    """Slots of `ROWS_A_CHUNK` rows each in memory that forked processes share."""

    def __init__(self, num_slots: int) -> None:
        shapes = row_shapes(ROWS_A_CHUNK).values()
        self._slot_bytes = sum(_padded(_num_bytes(*shape)) for shape in shapes)
        self._memory = mmap.mmap(-1, self._slot_bytes * num_slots)

    def rows(self, slot: int) -> Rows:
        """The rows of a slot; they are views."""
        arrays, offset = {}, slot * self._slot_bytes
        for name, (shape, dtype) in row_shapes(ROWS_A_CHUNK).items():
            count = int(np.prod(shape))
            arrays[name] = np.frombuffer(self._memory, dtype, count, offset).reshape(shape)
            offset += _padded(_num_bytes(shape, dtype))
        return Rows(**arrays)


class Generator:
    """Processes that make chunks of training rows until they are stopped."""

    def __init__(self, tokenizer: Tokenizer, seed: int, num_processes: int, num_slots: int) -> None:
        context = multiprocessing.get_context("fork")
        self._shared = SharedRows(num_slots)
        self._free: SimpleQueue[int] = context.SimpleQueue()
        self._full: SimpleQueue[int] = context.SimpleQueue()
        for slot in range(num_slots):
            self._free.put(slot)
        work = [
            (tokenizer.to_str(), seed, range(first, 1 << 40, num_processes)) for first in range(num_processes)
        ]
        self._processes = [
            context.Process(target=_work, args=(self._shared, self._free, self._full, *each), daemon=True)
            for each in work
        ]
        for process in self._processes:
            process.start()

    def ready(self, at_most: int, *, wait: bool = False) -> Iterator[Rows]:
        """Chunks that are ready, the first after waiting for it if `wait`; each is valid until the next."""
        for _ in range(at_most):
            if not wait and self._full.empty():
                return
            wait = False
            slot = self._full.get()
            yield self._shared.rows(slot)
            self._free.put(slot)

    def stop(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()


def _work(
    shared: SharedRows,
    free: "SimpleQueue[int]",
    full: "SimpleQueue[int]",
    text: str,
    seed: int,
    chunks: range,
) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.nice(5)
    tokenizer = Tokenizer.from_str(text)
    for chunk in chunks:
        slot = free.get()
        fill_rows(shared.rows(slot), tokenizer, training_rng(seed, chunk))
        full.put(slot)


def _num_bytes(shape: tuple[int, ...], dtype: type[np.generic]) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _padded(num_bytes: int) -> int:
    return -(-num_bytes // _ALIGNMENT) * _ALIGNMENT
