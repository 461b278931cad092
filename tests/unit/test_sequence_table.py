"""Rows of the device's state table: every parameter at its column, lists and blocks at their places."""

import struct

import pytest
import torch

from engine_service.sampling_params import SamplingParams
from engine_service.sequence import Sequence, SequenceSpec
from engine_service.sequence_table import SequenceTable
from tandem_kernels.sequence_state import Column, StateLayout

VOCAB = 50
LAYOUT = StateLayout(max_stop_ids=5, max_biases=3, max_blocks=7)
ROW = 2


NEUTRAL = SamplingParams()


def _sequence(params=NEUTRAL, prompt=(1, 2, 3), eos_ids=(49,), blocks=(4, 6), **fields):
    sequence = Sequence((0, 1), SequenceSpec(tuple(prompt), 99, params, **fields), 0, 0.0, eos_ids)
    sequence.row = ROW
    sequence.blocks = list(blocks)
    return sequence


def _table():
    return SequenceTable(4, VOCAB, LAYOUT, torch.device("cpu"))


def _state(table):
    """The state as it is after an upload, from -1 where nothing was written."""
    state = [-1] * table.state.numel()
    places, words = table.take_changes()
    assert len(set(places)) == len(places), "a place is written twice"
    for place, word in zip(places, words, strict=True):
        state[place] = word
    return [state[begin : begin + LAYOUT.row_size] for begin in range(0, len(state), LAYOUT.row_size)]


def _row(sequence):
    table = _table()
    table.set_row(sequence)
    return _state(table)[ROW]


def _bits(value):
    return struct.unpack("<i", struct.pack("<f", value))[0]


PARAMS = SamplingParams(
    temperature=0.7,
    top_p=0.9,
    top_k=12,
    min_p=0.05,
    repetition_penalty=1.1,
    presence_penalty=-0.25,
    frequency_penalty=0.5,
    logit_bias=((8, 1.5), (3, -100.0)),
    seed=(0xFEDCBA98 << 32) + 0x76543210,
)


@pytest.mark.parametrize(
    ("column", "word"),
    [
        (Column.LAST_TOKEN, -1),
        (Column.TEMPERATURE, _bits(0.7)),
        (Column.TOP_P, _bits(0.9)),
        (Column.MIN_P, _bits(0.05)),
        (Column.REPETITION, _bits(1.1)),
        (Column.PRESENCE, _bits(-0.25)),
        (Column.FREQUENCY, _bits(0.5)),
        (Column.TOP_K, 12),
        (Column.SEED_LOW, 0x76543210),
        (Column.SEED_HIGH, 0xFEDCBA98 - (1 << 32)),
        (Column.MIN_LENGTH, 3 + 4),
        (Column.NUM_STOP_IDS, 3),
        (Column.NUM_BIASES, 2),
        (Column.HAS_PENALTIES, 1),
    ],
    ids=lambda each: each.name if isinstance(each, Column) else "",
)
def test_every_parameter_is_at_its_column(column, word):
    row = _row(_sequence(PARAMS, min_tokens=4, stop_token_ids=frozenset({7, 9})))
    assert row[column] == word


def test_lists_and_blocks_are_at_their_places():
    row = _row(_sequence(PARAMS, stop_token_ids=frozenset({7, 9})))
    assert sorted(row[LAYOUT.stop_ids :][:3]) == [7, 9, 49]
    assert row[LAYOUT.bias_ids :][:2] == [8, 3]
    assert row[LAYOUT.bias_values :][:2] == [_bits(1.5), _bits(-100.0)]
    assert row[LAYOUT.block_table :][:3] == [4, 6, -1]


def test_lists_at_their_bounds_leave_the_block_table_alone():
    biases = tuple((token, 1.0) for token in range(LAYOUT.max_biases))
    stops = frozenset(range(LAYOUT.max_stop_ids - 1))
    row = _row(_sequence(SamplingParams(logit_bias=biases), stop_token_ids=stops, blocks=range(7)))
    assert sorted(row[LAYOUT.stop_ids : LAYOUT.bias_ids]) == [*range(4), 49]
    assert row[LAYOUT.bias_ids : LAYOUT.bias_values] == [0, 1, 2]
    assert row[LAYOUT.bias_values :][:3] == [_bits(1.0)] * 3
    assert row[LAYOUT.block_table :][:7] == list(range(7))


def test_other_rows_are_not_touched():
    table = _table()
    table.set_row(_sequence(PARAMS))
    assert all(set(row) == {-1} for number, row in enumerate(_state(table)) if number != ROW)


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**63 + 2**31, 2**64 - 1])
def test_the_halves_of_a_seed_are_its_bits(seed):
    row = _row(_sequence(SamplingParams(seed=seed)))
    low, high = (row[column] & 0xFFFFFFFF for column in (Column.SEED_LOW, Column.SEED_HIGH))
    assert high << 32 | low == seed


@pytest.mark.parametrize(
    ("top_k", "word"),
    [(0, VOCAB), (1, 1), (VOCAB - 1, VOCAB - 1), (VOCAB, VOCAB), (2**31 - 1, VOCAB)],
    ids=["none", "one", "one-below", "all", "largest"],
)
def test_top_k_is_bounded_by_the_vocabulary(top_k, word):
    assert _row(_sequence(SamplingParams(top_k=top_k)))[Column.TOP_K] == word


@pytest.mark.parametrize("min_tokens", [2**31 - 4, 2**31 - 3, 2**40], ids=["fits", "one-past", "far-past"])
def test_a_length_past_32_bits_counts_as_never(min_tokens):
    row = _row(_sequence(min_tokens=min_tokens))
    assert row[Column.MIN_LENGTH] == 2**31 - 1


def test_neutral_parameters_have_no_penalties_and_count_nothing():
    table = _table()
    table.token_counts.fill_(-1)
    sequence = _sequence(SamplingParams(temperature=0.0))
    table.set_row(sequence)
    assert _state(table)[ROW][Column.HAS_PENALTIES] == 0
    assert (table.token_counts == -1).all()


def test_with_penalties_the_counts_of_the_row_are_those_of_prompt_and_output():
    table = _table()
    table.token_counts.fill_(-1)
    sequence = _sequence(SamplingParams(frequency_penalty=1.0), prompt=(1, 2, 1))
    sequence.tokens += [2, 9, 9, 9]
    table.set_row(sequence)
    counts = [0] * VOCAB
    counts[1], counts[2], counts[9] = 1, 2 + 1, 3 * 2
    assert table.token_counts[ROW].tolist() == counts
    assert (table.token_counts[ROW + 1] == -1).all()


def test_new_blocks_are_written_behind_the_old_ones():
    table = _table()
    sequence = _sequence(blocks=(4, 6, 5))
    table.add_blocks(sequence, 2)
    row = _state(table)[ROW]
    assert row[LAYOUT.block_table :][:4] == [-1, -1, 5, -1]
    assert row.count(-1) == len(row) - 1


def test_changes_are_given_once():
    table = _table()
    table.set_row(_sequence())
    assert len(table.take_changes()[0]) > 0
    assert [len(part) for part in table.take_changes()] == [0, 0]


def test_the_scratch_row_lies_behind_the_others_and_has_only_the_scratch_block():
    table = _table()
    table.use_scratch_block(11)
    assert table.scratch_row == 4
    assert table.block_tables.shape == (5, LAYOUT.row_size - LAYOUT.block_table)
    assert set(table.block_tables[4].tolist()) == {11}
    assert not table.block_tables[:4].any()
