"""What an upload leaves on the device: the step's words at their places, and the changes in the table."""

import random
from array import array

import pytest
import torch

from engine_service import upload
from engine_service.sequence_table import WORD
from engine_service.upload import Upload, aligned, pad

CPU = torch.device("cpu")


class Changes:
    """Stands for a SequenceTable of one row that has collected changes."""

    def __init__(self, size, changes):
        self.state = torch.full((1, size), -1, dtype=torch.int32)
        self._changes = array(WORD, changes), array(WORD, changes.values())

    def take_changes(self):
        return self._changes


def _send(inputs, changes, size=500):
    table = Changes(size, changes)
    sent = Upload(20, CPU)
    sent.send(array(WORD, inputs), table)
    return sent.words, table.state[0].tolist()


@pytest.mark.parametrize(("num_words", "expected"), [(0, 0), (1, 4), (3, 4), (4, 4), (5, 8)])
def test_parts_begin_at_16_bytes(num_words, expected):
    assert aligned(num_words) == expected
    words = array(WORD, [7] * num_words)
    assert pad(words) is words
    assert words.tolist() == [7] * num_words + [0] * (expected - num_words)


@pytest.mark.parametrize("num_inputs", [0, 1, 4, 19, 20])
@pytest.mark.parametrize("num_changes", [0, 1, 3, 4, 5])
def test_inputs_and_changes_both_arrive(num_inputs, num_changes):
    inputs = [100 + place for place in range(num_inputs)]
    changes = {2 * place: place for place in range(num_changes)}
    words, state = _send(inputs, changes)
    assert words[:num_inputs].tolist() == inputs
    assert state == [changes.get(place, -1) for place in range(500)]


@pytest.mark.parametrize("num_changes", [7, 8, 9, 16, 17, 24, 25])
def test_more_changes_than_fit_one_copy_arrive_with_the_inputs(monkeypatch, num_changes):
    monkeypatch.setattr(upload, "MAX_CHANGES", 8)
    places = random.Random(num_changes).sample(range(500), num_changes)
    changes = {place: 3 * place for place in places}
    words, state = _send(range(1, 21), changes)
    assert words[:20].tolist() == list(range(1, 21))
    assert state == [changes.get(place, -1) for place in range(500)]


def test_the_most_changes_of_one_copy_and_one_more():
    size = upload.MAX_CHANGES + 1
    for count in (size - 1, size):
        words, state = _send(range(20), {place: place for place in range(count)}, size)
        assert words[:20].tolist() == list(range(20))
        assert state[:count] == list(range(count))
        assert state[count:] == [-1] * (size - count)


def test_the_words_that_were_given_stay_as_they_were():
    inputs = array(WORD, [1, 2, 3])
    Upload(20, CPU).send(inputs, Changes(10, {3: 4}))
    assert inputs.tolist() == [1, 2, 3]
