"""The layout of the device's state table: one row of 32-bit words for each running sequence.

One table holds what the sampler needs of a sequence and its block table, so that all changes of a step
reach the device by one copy and one scatter of (place, word) pairs. Floats are stored by their bits.
"""

from dataclasses import dataclass
from enum import IntEnum


class Column(IntEnum):
    """The words at the beginning of a row.

    Attributes:
        LAST_TOKEN: The newest token, the next decode step's input.
        TEMPERATURE: float32; 0 takes the likeliest token.
        TOP_P, MIN_P, REPETITION, PRESENCE, FREQUENCY: float32.
        TOP_K: The vocabulary size for no bound.
        SEED_LOW, SEED_HIGH: The halves of the unsigned 64-bit seed.
        MIN_LENGTH: Tokens of prompt and output before which no stop id is drawn.
        NUM_STOP_IDS, NUM_BIASES: Used entries of the row's lists.
        HAS_PENALTIES: 1 if repetition, presence or frequency penalty is not neutral.
    """

    LAST_TOKEN = 0
    TEMPERATURE = 1
    TOP_P = 2
    MIN_P = 3
    REPETITION = 4
    PRESENCE = 5
    FREQUENCY = 6
    TOP_K = 7
    SEED_LOW = 8
    SEED_HIGH = 9
    MIN_LENGTH = 10
    NUM_STOP_IDS = 11
    NUM_BIASES = 12
    HAS_PENALTIES = 13


_NUM_COLUMNS = 16


@dataclass(frozen=True)
class StateLayout:
    """Where the lists of a row begin.

    Attributes:
        max_stop_ids: Room for stop ids.
        max_biases: Room for logit biases.
        max_blocks: Room for the block table.
    """

    max_stop_ids: int
    max_biases: int
    max_blocks: int

    @property
    def stop_ids(self) -> int:
        """The first stop id."""
        return _NUM_COLUMNS

    @property
    def bias_ids(self) -> int:
        """The first biased token id."""
        return self.stop_ids + self.max_stop_ids

    @property
    def bias_values(self) -> int:
        """The first bias, float32."""
        return self.bias_ids + self.max_biases

    @property
    def block_table(self) -> int:
        """The first block; 16 bytes aligned, since kernels are compiled for where a table begins."""
        return _aligned(self.bias_values + self.max_biases)

    @property
    def row_size(self) -> int:
        """Words of a row."""
        return _aligned(self.block_table + self.max_blocks)


def _aligned(num_words: int) -> int:
    return -(-num_words // 4) * 4
