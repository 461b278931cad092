"""The sampler against transformers' logits processors, and the noise against its distribution."""

import pytest
import torch
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from engine_service.sampler import Needs, _gumbel, log_probabilities, sample
from engine_service.sampling_params import SamplingParams
from engine_service.sequence import Sequence, SequenceSpec
from engine_service.sequence_table import SequenceTable

VOCAB = 50
DEVICE = torch.device("cpu")


def _sequences(*params, prompt=(1, 2, 3), output=(), **fields):
    sequences = []
    for row, each in enumerate(params):
        sequence = Sequence((0, row), SequenceSpec(tuple(prompt), 99, each, **fields), row, 0.0, (49,))
        sequence.tokens += output
        sequence.row = row
        sequences.append(sequence)
    return sequences


def _draw(sequences, logits):
    table = SequenceTable(len(sequences), VOCAB, 8, DEVICE)
    for sequence in sequences:
        table.set_row(sequence)
    rows = torch.arange(len(sequences))
    positions = torch.tensor([len(sequence.tokens) for sequence in sequences])
    return sample(logits, rows, positions, table, Needs.of(sequences)).tolist()


def _frequencies(params, logits, count=20_000, **fields):
    """How often each id is drawn, by drawing with `count` seeds at once."""
    sequences = _sequences(params, **fields)
    table = SequenceTable(count, VOCAB, 8, DEVICE)
    table.set_row(sequences[0])
    for tensor in vars(table).values():
        if isinstance(tensor, torch.Tensor):
            tensor[:] = tensor[0].clone()
    table.seeds = torch.arange(count)
    positions = torch.full((count,), len(sequences[0].tokens))
    drawn = sample(logits.expand(count, -1), torch.arange(count), positions, table, Needs.of(sequences))
    return drawn.bincount(minlength=VOCAB) / count


def _logits(seed=0):
    return torch.randn(1, VOCAB, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize(
    ("params", "warpers"),
    [
        pytest.param({}, [], id="plain"),
        pytest.param({"temperature": 0.6}, [TemperatureLogitsWarper(0.6)], id="temperature"),
        pytest.param({"top_k": 5}, [TopKLogitsWarper(5)], id="top-k"),
        pytest.param({"top_p": 0.7}, [TopPLogitsWarper(0.7)], id="top-p"),
        pytest.param({"min_p": 0.1}, [MinPLogitsWarper(0.1)], id="min-p"),
        pytest.param(
            {"temperature": 1.4, "top_k": 20, "top_p": 0.8, "min_p": 0.08},
            [
                TemperatureLogitsWarper(1.4),
                TopKLogitsWarper(20),
                TopPLogitsWarper(0.8),
                MinPLogitsWarper(0.08),
            ],
            id="all",
        ),
    ],
)
def test_draws_follow_the_distribution_of_transformers_warpers(params, warpers):
    logits = _logits()
    expected = logits.clone()
    for warper in warpers:
        expected = warper(None, expected)
    probabilities = expected.softmax(-1)[0]
    found = _frequencies(SamplingParams(**params), logits)
    assert not found[probabilities == 0].any(), "an id outside the truncation was drawn"
    # Four standard deviations of a share of 20,000 draws.
    bound = 4 * (probabilities * (1 - probabilities) / 20_000).sqrt() + 1e-4
    assert ((found - probabilities).abs() <= bound).all()


def test_repetition_penalty_equals_transformers_over_prompt_and_output():
    logits = _logits()
    ids = torch.tensor([[1, 2, 3, 7, 7]])
    expected = RepetitionPenaltyLogitsProcessor(5.0)(ids, logits.clone())
    sequences = _sequences(
        SamplingParams(temperature=0.0, repetition_penalty=5.0), prompt=(1, 2, 3), output=[7, 7]
    )
    assert _draw(sequences, logits) == expected.argmax(-1).tolist()
    found = _frequencies(SamplingParams(repetition_penalty=5.0), logits, prompt=(1, 2, 3), output=[7, 7])
    assert (found - expected.softmax(-1)[0]).abs().max() < 0.015


@pytest.mark.parametrize(
    ("params", "change"),
    [
        pytest.param({"presence_penalty": 1.5}, -1.5, id="presence-counts-once"),
        pytest.param({"frequency_penalty": 1.5}, -3.0, id="frequency-counts-each"),
    ],
)
def test_output_penalties_leave_the_prompt_alone(params, change):
    logits = torch.zeros(1, VOCAB)
    logits[0, 1], logits[0, 7] = 2.0, 2.0 - change - 0.1
    sequences = _sequences(SamplingParams(temperature=0.0, **params), prompt=(1, 2), output=[7, 7])
    assert _draw(sequences, logits) == [1]
    logits[0, 7] += 0.2
    assert _draw(sequences, logits) == [7]


def test_logit_bias_moves_the_choice():
    logits = torch.zeros(2, VOCAB)
    logits[:, 4] = 3.0
    sequences = _sequences(
        SamplingParams(temperature=0.0, logit_bias=((9, 3.5),)),
        SamplingParams(temperature=0.0, logit_bias=((4, -0.5), (0, 1.0))),
    )
    assert _draw(sequences, logits) == [9, 4]


@pytest.mark.parametrize(
    ("output", "expected"), [([], 8), ([5], 8), ([5, 5], 49)], ids=["none", "one-short", "met"]
)
def test_no_stop_token_is_drawn_before_min_tokens(output, expected):
    logits = torch.zeros(1, VOCAB)
    logits[0, 49], logits[0, 30], logits[0, 8] = 9.0, 8.0, 7.0
    fields = {"min_tokens": 2, "stop_token_ids": frozenset({30})}
    sequences = _sequences(SamplingParams(temperature=0.0), output=output, **fields)
    assert _draw(sequences, logits) == [expected]


def test_a_draw_does_not_depend_on_the_other_rows():
    logits = torch.cat([_logits(seed) for seed in range(6)])
    params = [SamplingParams(temperature=t, top_p=p, seed=9) for t in (0.0, 1.0, 1.5) for p in (1.0, 0.6)]
    together = _draw(_sequences(*params), logits)
    for row, each in enumerate(params):
        assert _draw(_sequences(each), logits[row : row + 1]) == together[row : row + 1]


def test_noise_is_gumbel_and_independent_over_seeds_positions_and_tokens():
    seeds, positions = torch.arange(-100, 100), torch.arange(200)
    noise = _gumbel(seeds, positions, 1000)
    assert abs(noise.mean().item() - 0.5772) < 0.02
    assert abs(noise.var().item() - torch.pi**2 / 6) < 0.05
    assert noise.flatten().unique().numel() > 0.99 * noise.numel()
    one_position = _gumbel(seeds, torch.zeros(200, dtype=torch.int64), 1000)
    assert torch.corrcoef(torch.stack([noise.flatten(), one_position.flatten()]))[0, 1].abs() < 0.01
    neighbours = torch.corrcoef(torch.stack([noise[:, 1:].flatten(), noise[:, :-1].flatten()]))
    assert neighbours[0, 1].abs() < 0.01


def test_candidates_are_the_likeliest_ids_in_order():
    logits = _logits()
    entries = log_probabilities(logits, torch.tensor([17]), 4)
    expected = logits.log_softmax(-1)[0]
    assert entries.logprobs == [pytest.approx(expected[17].item())]
    assert entries.candidate_tokens == expected.topk(4).indices.tolist()
    assert entries.candidate_logprobs == pytest.approx(expected.topk(4).values.tolist())
