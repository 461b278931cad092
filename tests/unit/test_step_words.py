"""A plan as words: what stands where, what padding says, and where the parts begin."""

from dataclasses import replace

import pytest

from engine_service.plan import FeatureRun, Plan, PrefillChunk
from engine_service.sequence import Sequence, SequenceSpec
from engine_service.step_words import NO_PREFILL, PrefillShape, step_words

SCRATCH = 6  # so that there is room for six decoding sequences, in eight words


def _sequence(row, prompt, num_computed=0):
    sequence = Sequence((0, row), SequenceSpec(tuple(prompt), 9), row, 0.0, ())
    sequence.row = row
    sequence.num_computed = num_computed
    return sequence


def _chunks():
    """The middle of one prompt, the end of another, the whole of a third."""
    return [
        PrefillChunk(_sequence(3, range(100, 110)), 4, 3, is_first=False, is_last=False),
        PrefillChunk(_sequence(0, range(200, 206)), 1, 5, is_first=False, is_last=True),
        PrefillChunk(_sequence(5, (300,)), 0, 1, is_first=True, is_last=True),
    ]


def _parts(chunks, shape):
    words = step_words(Plan(1, chunks, []), shape, SCRATCH).tolist()[16:]
    assert len(words) == shape.num_words
    return [words[place : place + size] for place, size in shape.segments()]


def test_decoding_sequences_come_first_and_the_rest_is_padding():
    decodes = [_sequence(4, (1,), 17), _sequence(1, (1,), 9)]
    words = step_words(Plan(1, [], decodes), NO_PREFILL, SCRATCH).tolist()
    assert words == [4, 1, *[SCRATCH] * 6, 17, 9, *[0] * 6]


def test_without_decoding_sequences_all_of_it_is_padding():
    words = step_words(Plan(1, [], []), NO_PREFILL, SCRATCH).tolist()
    assert words == [SCRATCH] * 8 + [0] * 8


def test_the_shape_counts_tokens_chunks_and_those_that_draw():
    assert PrefillShape.of(_chunks()) == PrefillShape(9, 3, 2)
    assert PrefillShape.of([]) == NO_PREFILL


def test_the_shape_is_whole_while_a_prompt_waits_for_its_log_probabilities():
    sequence = Sequence((0, 1), SequenceSpec((1, 2, 3), 9, prompt_logprobs=0), 1, 0.0, ())
    chunk = PrefillChunk(sequence, 0, 3, is_first=True, is_last=True)
    assert PrefillShape.of([*_chunks(), chunk]) == PrefillShape(12, 4, 3, is_whole=True)
    sequence.is_started = True
    assert not PrefillShape.of([chunk]).is_whole


def test_the_shape_is_fresh_while_no_chunk_has_an_earlier_context():
    fresh = PrefillChunk(_sequence(5, (300, 301)), 0, 1, is_first=True, is_last=False)
    assert PrefillShape.of([fresh, fresh]) == PrefillShape(2, 2, 0, is_fresh=True)
    assert not PrefillShape.of([fresh, replace(fresh, start=1)]).is_fresh


def test_chunks_are_packed_without_padding():
    begins, starts, rows, lens, ends, draw_rows, draw_positions, ids = _parts(
        _chunks(), PrefillShape(9, 3, 2)
    )
    assert begins == [0, 3, 8, 9]
    assert starts == [4, 1, 0, 0]
    assert rows == [3, 0, 5, SCRATCH]
    assert lens == [7, 6, 1]
    assert (ends, draw_rows, draw_positions) == ([7, 8], [0, 5], [6, 1])
    assert ids == [104, 105, 106, 201, 202, 203, 204, 205, 300]


def test_tokens_of_images_take_rows_behind_the_vocabulary():
    first, second, third = _chunks()
    chunks = [
        replace(first, features=(FeatureRun(0, 1, 1000), FeatureRun(2, 3, 1050))),
        replace(second, features=(FeatureRun(1, 4, 2000),)),
        third,
    ]
    ids = _parts(chunks, PrefillShape(9, 3, 2))[-1]
    assert ids == [1000, 105, 1050, 201, 2000, 2001, 2002, 205, 300]


def test_padding_of_a_larger_shape_belongs_to_the_scratch_row():
    begins, starts, rows, lens, ends, draw_rows, draw_positions, ids = _parts(
        _chunks(), PrefillShape(16, 4, 4)
    )
    assert begins == [0, 3, 8, 9, 9]
    assert starts == [4, 1, 0, 0, 0]
    assert rows == [3, 0, 5, SCRATCH, SCRATCH]
    assert lens == [7, 6, 1, 0]
    assert (ends, draw_rows, draw_positions) == (
        [7, 8, 0, 0],
        [0, 5, SCRATCH, SCRATCH],
        [6, 1, 0, 0],
    )
    assert ids == [104, 105, 106, 201, 202, 203, 204, 205, 300, *[0] * 7]


@pytest.mark.parametrize("shape", [(9, 3, 2), (1, 1, 0), (1, 1, 1), (512, 4, 4), (2048, 256, 255)], ids=str)
def test_parts_begin_at_16_bytes_and_do_not_overlap(shape):
    shape = PrefillShape(*shape)
    end = 0
    for place, size in shape.segments():
        assert place % 4 == 0
        assert end <= place < end + 4
        end = place + size
    assert end <= shape.num_words < end + 4


def test_a_chunk_after_a_preemption_brings_the_output_too():
    sequence = _sequence(2, (1, 2))
    sequence.tokens += [7, 8]
    chunk = PrefillChunk(sequence, 0, 4, is_first=True, is_last=True)
    parts = _parts([chunk], PrefillShape.of([chunk]))
    assert parts[-1] == [1, 2, 7, 8]
    assert parts[-2] == [4]
