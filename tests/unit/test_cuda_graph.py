"""To which sizes batches are padded, and what happens when there is no memory for all graphs."""

import itertools
import logging

import pytest
import torch

from engine_service.cuda_graph import GraphedSteps, decode_sizes
from engine_service.graphs import Graphs, capture_in_turn
from engine_service.step_words import NO_PREFILL, PrefillShape


class Steps:
    """Stands for ModelSteps: notes what runs."""

    def __init__(self):
        self.ran = []
        self.padding = None

    def fill_with_padding(self, shape):
        self.padding = shape

    def decode(self, num_seqs):
        self.ran.append(num_seqs)

    def prefill(self, shape):
        assert shape == self.padding
        self.ran.append(shape)


class Graph:
    """Stands for a captured graph."""

    def __init__(self, size, replayed):
        self._note = lambda: replayed.append(size)

    def replay(self):
        self._note()


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)


def _steps(max_num_seqs=16, max_prefill_tokens=2048, is_padded=True):
    return GraphedSteps(Steps(), max_num_seqs, max_prefill_tokens, None, is_padded=is_padded)


@pytest.mark.parametrize("most", [1, 2, 3, 8, 15, 16, 17, 63, 64, 100, 256, 257, 300, 1024])
def test_decode_sizes_ascend_to_the_most_sequences(most):
    sizes = decode_sizes(most)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == most
    assert sizes[0] == 1
    for small, big in itertools.pairwise(sizes):
        assert big <= 2 * small
        assert big - small <= 64


def test_decode_sizes_of_the_default():
    assert decode_sizes(256) == [1, 2, 4, 8, 16, 32, 48, *range(64, 256, 32), 256]


@pytest.mark.parametrize(("num_seqs", "size"), [(1, 1), (2, 2), (3, 4), (8, 8), (9, 12), (12, 12)])
def test_a_decode_batch_is_padded_to_the_next_size(num_seqs, size):
    steps = Steps()
    GraphedSteps(steps, 12, 64, None, is_padded=True).decode(num_seqs)
    assert steps.ran == [size]


def test_without_a_gpu_nothing_is_padded():
    steps = Steps()
    graphs = GraphedSteps(steps, 12, 64, None, is_padded=False)
    graphs.decode(3)
    assert steps.ran == [3]
    shape = PrefillShape(5, 1, 1)
    assert graphs.prefill_shape(shape) == shape


@pytest.mark.parametrize(
    ("shape", "padded"),
    [
        pytest.param((1, 1, 0), (16, 16, 16), id="smallest"),
        pytest.param((16, 16, 16), (16, 16, 16), id="fits"),
        pytest.param((17, 1, 1), (32, 16, 16), id="one-past"),
        pytest.param((1024, 2, 1), (1024, 16, 16), id="largest"),
        pytest.param((1025, 2, 1), (1025, 2, 1), id="past-largest"),
        pytest.param((20, 17, 17), (20, 17, 17), id="one-chunk-too-many"),
        pytest.param((0, 0, 0), (0, 0, 0), id="none"),
    ],
)
def test_a_short_prefill_is_padded_to_the_next_shape(shape, padded):
    assert _steps().prefill_shape(PrefillShape(*shape)) == PrefillShape(*padded)


def test_no_prefill_is_padded_past_what_a_step_may_have():
    graphs = _steps(max_prefill_tokens=100)
    assert graphs.prefill_shape(PrefillShape(60, 1, 1)).num_tokens == 64
    assert graphs.prefill_shape(PrefillShape(65, 1, 1)) == PrefillShape(65, 1, 1)


def test_no_prefill_is_padded_to_more_chunks_than_sequences():
    assert _steps(max_num_seqs=2).prefill_shape(PrefillShape(3, 1, 1)) == PrefillShape(16, 2, 2)
    assert _steps(max_num_seqs=2).prefill_shape(NO_PREFILL) == NO_PREFILL


SIZES = [16, 8, 4, 2, 1]
SHAPES = [PrefillShape(tokens, 16, 16) for tokens in (*range(1024, 0, -128), 64, 32, 16)]
NUM_GRAPHS = len(SIZES + SHAPES)


@pytest.mark.parametrize("room", [0, 1, 4, 5, 6, NUM_GRAPHS - 1, NUM_GRAPHS], ids=lambda room: f"room{room}")
def test_sizes_without_memory_for_a_graph_run_without_one(monkeypatch, caplog, room):
    replayed = []
    captured = []

    def capture(self, size):
        if len(captured) == room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self._function(size)
        captured.append(size)
        return Graph(size, replayed), None

    monkeypatch.setattr(Graphs, "_capture", capture)
    steps = Steps()
    graphs = GraphedSteps(steps, 16, 2048, None, is_padded=True)
    with caplog.at_level(logging.WARNING):
        assert capture_in_turn(graphs.captures()) == room
    assert captured == (SIZES + SHAPES)[:room]
    words = f"no memory for {NUM_GRAPHS - room} of {NUM_GRAPHS} graphs"
    assert (words in caplog.text) == (room < NUM_GRAPHS)
    steps.ran.clear()
    for size in SIZES:
        graphs.decode(size)
    for shape in SHAPES:
        steps.fill_with_padding(shape)
        graphs.prefill(shape)
    assert replayed == captured
    assert steps.ran == (SIZES + SHAPES)[room:]
