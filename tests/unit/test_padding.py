"""Padding changes nothing: the same chunks and sequences draw the same tokens in larger shapes."""

import pytest
import torch

from engine_service.plan import Plan, PrefillChunk
from engine_service.sampling_params import SamplingParams
from engine_service.sequence import Sequence, SequenceSpec
from engine_service.step_words import NO_PREFILL, PrefillShape, step_words
from support.checkpoints import random_model, save

PROMPTS = ((5,), tuple(range(40)), tuple(range(60, 77)))
PARAMS = (
    SamplingParams(temperature=0.0),
    SamplingParams(seed=2**64 - 1, frequency_penalty=0.5),
    SamplingParams(temperature=0.8, top_p=0.9, seed=4),
)
BLOCK_SIZE = 8


@pytest.fixture(scope="module", params=[256, 250], ids=["whole-blocks", "part-of-a-block"])
def checkpoint(tmp_path_factory, request):
    """A model whose context is a number of whole blocks, or not."""
    model = random_model("llama", max_position_embeddings=request.param)
    return save(model, tmp_path_factory.mktemp("padding"))


class Bench:
    """The device's part of steps, without scheduler and runner: sequence n has row n and its own blocks."""

    def __init__(self, local_core, checkpoint):
        core = local_core(checkpoint, max_num_seqs=8, kv_block_size=BLOCK_SIZE)
        runner = core.core._runner
        self.steps, self.upload = runner._graphs._steps, runner._upload
        self.sequences = [self._sequence(number) for number in range(len(PROMPTS))]

    def prefill(self, length, shape=None):
        """Runs up to `length` more tokens of each prompt; returns what those draw that are done."""
        chunks = [self._chunk(sequence, length) for sequence in self.sequences]
        shape = shape or PrefillShape.of(chunks)
        self._send(Plan(1, chunks, []), shape)
        drawing = [chunk.sequence for chunk in chunks if chunk.is_last]
        return self._take(self.steps.prefill(shape).tokens, drawing)

    def decode(self, num_seqs):
        """The next token of every sequence, in a batch of `num_seqs`."""
        for sequence in self.sequences:
            sequence.num_computed += 1
        self._send(Plan(2, [], self.sequences), NO_PREFILL)
        return self._take(self.steps.decode(num_seqs).tokens, self.sequences)

    def _sequence(self, number):
        sequence = Sequence((0, number), SequenceSpec(PROMPTS[number], 9, PARAMS[number]), number, 0.0, ())
        sequence.row = number
        sequence.blocks = list(range(8 * number, 8 * number + 8))
        return sequence

    def _chunk(self, sequence, length):
        start = sequence.num_computed
        length = min(length, len(sequence.tokens) - start)
        sequence.num_computed += length
        is_last = sequence.num_computed == len(sequence.tokens)
        return PrefillChunk(sequence, start, length, start == 0, is_last)

    def _send(self, plan, shape):
        table = self.steps.table
        for chunk in plan.prefills:
            if chunk.is_first:
                table.set_row(chunk.sequence)
        self.upload.send(step_words(plan, shape, table.scratch_row), table)

    def _take(self, tokens, sequences):
        for sequence, token in zip(sequences, tokens.tolist(), strict=False):
            sequence.tokens.append(token)
        return tokens[: len(sequences)].tolist()


def _run(bench, shape, num_seqs):
    """Tokens of three whole prompts and of five decode steps after them."""
    with torch.inference_mode():
        tokens = [bench.prefill(64, shape)]
        return tokens + [bench.decode(num_seqs) for _ in range(5)]


@pytest.fixture(scope="module")
def unpadded(local_core, checkpoint):
    return _run(Bench(local_core, checkpoint), None, len(PROMPTS))


@pytest.mark.parametrize(
    ("shape", "num_seqs"),
    [
        pytest.param((59, 3, 3), 3, id="one-token"),
        pytest.param((58, 4, 3), 4, id="one-chunk"),
        pytest.param((58, 3, 4), 4, id="one-drawing"),
        pytest.param((64, 4, 4), 8, id="all"),
        pytest.param((240, 8, 8), 8, id="past-all-prompts"),
        pytest.param((58, 3, 3, True), 3, id="all-tokens-to-the-end"),
    ],
)
def test_padded_shapes_draw_the_same_tokens(local_core, checkpoint, unpadded, shape, num_seqs):
    assert _run(Bench(local_core, checkpoint), PrefillShape(*shape), num_seqs) == unpadded


def test_padding_past_the_context_draws_the_same_tokens(local_core, checkpoint, unpadded):
    assert _run(Bench(local_core, checkpoint), PrefillShape(512, 8, 8), 8) == unpadded


def test_padded_chunks_of_prompts_draw_the_same_tokens(local_core, checkpoint, unpadded):
    bench = Bench(local_core, checkpoint)
    with torch.inference_mode():
        assert bench.prefill(1, PrefillShape(16, 4, 4)) == unpadded[0][:1]
        bench.sequences, done = bench.sequences[1:], bench.sequences[:1]
        assert bench.prefill(16, PrefillShape(64, 4, 4)) == unpadded[0][2:]
        bench.sequences, late = bench.sequences[:1], bench.sequences[1:]
        assert bench.prefill(64, PrefillShape(32, 4, 4)) == unpadded[0][1:2]
        bench.sequences = done + bench.sequences + late
        assert [bench.decode(8) for _ in range(5)] == unpadded[1:]


def test_padding_writes_to_the_scratch_block_only(local_core, checkpoint):
    bench = Bench(local_core, checkpoint)
    cache = bench.steps.cache
    with torch.inference_mode():
        cache.keys.fill_(torch.nan)
        bench.prefill(64, PrefillShape(128, 4, 4))
        bench.decode(8)
    written = ~cache.keys[0].isnan().all(dim=-1).all(dim=-1)
    expected = torch.zeros_like(written)
    for sequence in bench.sequences:
        expected[sequence.blocks] = torch.arange(64).view(8, BLOCK_SIZE) < sequence.num_computed
    assert torch.equal(written[:-1], expected[:-1])
    assert bench.steps.table.block_tables[: len(PROMPTS)].ne(cache.num_blocks).all()


def test_a_step_of_nothing_but_padding_leaves_the_sequences_alone(local_core, checkpoint, unpadded):
    bench = Bench(local_core, checkpoint)
    shape = PrefillShape(32, 4, 4)
    with torch.inference_mode():
        tokens = [bench.prefill(64)]
        bench.steps.fill_with_padding(shape)
        bench.steps.prefill(shape)
        bench.steps.decode(8)
        assert tokens + [bench.decode(3) for _ in range(5)] == unpadded
