"""What the sampling kernels read of a sequence's row of the state table."""

import triton
import triton.language as tl

from tandem_kernels.sequence_state import Column

# Scaled logits are logits / temperature * this: their powers of 2 are what probabilities are made of.
LOG2_E = tl.constexpr(1.4426950408889634)
LAST_TOKEN = tl.constexpr(int(Column.LAST_TOKEN))
TEMPERATURE = tl.constexpr(int(Column.TEMPERATURE))
TOP_P = tl.constexpr(int(Column.TOP_P))
MIN_P = tl.constexpr(int(Column.MIN_P))
REPETITION = tl.constexpr(int(Column.REPETITION))
PRESENCE = tl.constexpr(int(Column.PRESENCE))
FREQUENCY = tl.constexpr(int(Column.FREQUENCY))
TOP_K = tl.constexpr(int(Column.TOP_K))
SEED_LOW = tl.constexpr(int(Column.SEED_LOW))
SEED_HIGH = tl.constexpr(int(Column.SEED_HIGH))
MIN_LENGTH = tl.constexpr(int(Column.MIN_LENGTH))
NUM_STOP_IDS = tl.constexpr(int(Column.NUM_STOP_IDS))
NUM_BIASES = tl.constexpr(int(Column.NUM_BIASES))
HAS_PENALTIES = tl.constexpr(int(Column.HAS_PENALTIES))


@triton.jit
def float_word(row: tl.tensor, COLUMN: tl.constexpr) -> tl.tensor:
    """A column that is float32."""
    return tl.load(row + COLUMN).to(tl.float32, bitcast=True)


@triton.jit
def forbids_stops(row: tl.tensor, position: tl.tensor) -> tl.tensor:
    """Whether no stop id may be drawn at `position`."""
    return (position < tl.load(row + MIN_LENGTH)) & (tl.load(row + NUM_STOP_IDS) > 0)


@triton.jit
def is_adjusted(row: tl.tensor, position: tl.tensor) -> tl.tensor:
    """Whether the draw is from other logits than the model's."""
    has_rules = (tl.load(row + HAS_PENALTIES) != 0) | (tl.load(row + NUM_BIASES) > 0)
    return has_rules | forbids_stops(row, position)


@triton.jit
def is_truncated(row: tl.tensor, VOCAB_SIZE: tl.constexpr) -> tl.tensor:
    """Whether unlikely tokens are dropped before the draw."""
    has_bound = (float_word(row, TOP_P) < 1) | (float_word(row, MIN_P) > 0)
    return (float_word(row, TEMPERATURE) > 0) & (has_bound | (tl.load(row + TOP_K) < VOCAB_SIZE))
