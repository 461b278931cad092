"""What a step brings to the device: one array of 32-bit words, by one copy."""

from __future__ import annotations

from array import array

import torch

from engine_service.sequence_table import WORD, SequenceTable
from tandem_kernels import scatter_words

# Words of changes that one copy has room for; a long new block table may need more than one.
MAX_CHANGES = 1 << 16
# Staging buffers: one is filled while copies of earlier ones may still be under way.
_NUM_STAGING = 4


class Upload:
    """The device's buffer of input words, and the pinned memory that its copies come from.

    Attributes:
        words: [capacity] int32 on the device. A captured graph finds its inputs at fixed places here.
    """

    def __init__(self, num_input_words: int, device: torch.device) -> None:
        """Room for the inputs of a step, and behind them for changes of the state table."""
        self.words = torch.zeros(aligned(num_input_words) + 2 * MAX_CHANGES, dtype=torch.int32, device=device)
        num_staging = _NUM_STAGING if device.type == "cuda" else 0
        self._staging = [_Staging(len(self.words)) for _ in range(num_staging)]

    def send(self, inputs: array[int], table: SequenceTable) -> None:
        """Copies the step's inputs, and writes what changed in the state table."""
        places, words = table.take_changes()
        for start in range(MAX_CHANGES, len(places), MAX_CHANGES):
            part = slice(start, start + MAX_CHANGES)
            self._send(array(WORD), places[part], words[part], table)
        self._send(inputs, places[:MAX_CHANGES], words[:MAX_CHANGES], table)

    def _send(self, inputs: array[int], places: array[int], words: array[int], table: SequenceTable) -> None:
        sent = inputs[:]
        begin = len(pad(sent))
        middle = begin + aligned(len(places))
        sent.extend(places)
        pad(sent).extend(words)
        if sent:
            self._copy(torch.frombuffer(sent, dtype=torch.int32))
        if places:
            count = len(places)
            changed, found = self.words[begin : begin + count], self.words[middle : middle + count]
            scatter_words(table.state.view(-1), changed, found)

    def _copy(
        self,
        words: torch.Tensor,  # [num_words]
    ) -> None:
        target = self.words[: len(words)]
        if not self._staging:
            target.copy_(words)
            return
        staging = self._staging.pop(0)
        self._staging.append(staging)
        staging.is_free.synchronize()
        pinned = staging.words[: len(words)]
        pinned.copy_(words)
        target.copy_(pinned, non_blocking=True)
        staging.is_free.record()


class _Staging:
    """Pinned memory, and the event after which it may be written again."""

    def __init__(self, capacity: int) -> None:
        self.words = torch.empty(capacity, dtype=torch.int32, pin_memory=True)
        self.is_free = torch.cuda.Event()  # type: ignore[no-untyped-call]


def aligned(num_words: int) -> int:
    """`num_words` rounded up to 16 bytes: kernels are compiled for where their arguments begin."""
    return -(-num_words // 4) * 4


def pad(words: array[int]) -> array[int]:
    """Appends zeros to `words` up to the next 16 bytes and returns it."""
    words.extend([0] * (aligned(len(words)) - len(words)))
    return words
