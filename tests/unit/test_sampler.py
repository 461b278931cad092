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

from engine_service.log_probabilities import log_probabilities, to_logprobs
from engine_service.sampling_params import SamplingParams
from support.sampling_cases import LAYOUT, SampleArguments, filled_table, make_sequences
from tandem_kernels import sample
from tandem_kernels.reference_sample import gumbel
from tandem_kernels.sequence_state import Column

VOCAB = 50


def _draw(sequences, logits):
    arguments = SampleArguments.of(sequences, logits)
    drawn = sample(*arguments.all())
    assert drawn.dtype == torch.int32
    assert torch.equal(arguments.state[arguments.rows, Column.LAST_TOKEN], drawn)
    return drawn.tolist()


def _frequencies(params, logits, count=20_000, **fields):
    """How often each id is drawn, by drawing with `count` seeds at once."""
    (sequence,) = make_sequences([params], **fields)
    table = filled_table([sequence], VOCAB)
    state, token_counts = (part[:1].repeat(count, 1) for part in (table.state, table.token_counts))
    state[:, Column.SEED_LOW] = torch.arange(count)
    rows = torch.arange(count, dtype=torch.int32)
    positions = torch.full_like(rows, len(sequence.tokens))
    logits = logits.repeat(count, 1)
    drawn = sample(logits, torch.empty_like(logits), rows, positions, state, token_counts, LAYOUT)
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
    params = SamplingParams(temperature=0.0, repetition_penalty=5.0)
    sequences = make_sequences([params], prompt=(1, 2, 3), output=[7, 7])
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
    sequences = make_sequences([SamplingParams(temperature=0.0, **params)], prompt=(1, 2), output=[7, 7])
    assert _draw(sequences, logits) == [1]
    logits[0, 7] += 0.2
    assert _draw(sequences, logits) == [7]


def test_logit_bias_moves_the_choice():
    logits = torch.zeros(2, VOCAB)
    logits[:, 4] = 3.0
    biases = ((9, 3.5),), ((4, -0.5), (0, 1.0))
    sequences = make_sequences([SamplingParams(temperature=0.0, logit_bias=each) for each in biases])
    assert _draw(sequences, logits) == [9, 4]


@pytest.mark.parametrize(
    ("output", "expected"), [([], 8), ([5], 8), ([5, 5], 49)], ids=["none", "one-short", "met"]
)
def test_no_stop_token_is_drawn_before_min_tokens(output, expected):
    logits = torch.zeros(1, VOCAB)
    logits[0, 49], logits[0, 30], logits[0, 8] = 9.0, 8.0, 7.0
    fields = {"min_tokens": 2, "stop_token_ids": frozenset({30})}
    sequences = make_sequences([SamplingParams(temperature=0.0)], output=output, **fields)
    assert _draw(sequences, logits) == [expected]


def test_a_draw_does_not_depend_on_the_other_rows():
    logits = torch.cat([_logits(seed) for seed in range(6)])
    params = [SamplingParams(temperature=t, top_p=p, seed=9) for t in (0.0, 1.0, 1.5) for p in (1.0, 0.6)]
    together = _draw(make_sequences(params), logits)
    for row, each in enumerate(params):
        assert _draw(make_sequences([each]), logits[row : row + 1]) == together[row : row + 1]


def test_drawn_tokens_are_counted_where_there_are_penalties():
    sequences = make_sequences([SamplingParams(presence_penalty=0.1), SamplingParams()], output=[7, 7])
    arguments = SampleArguments.of(sequences, torch.cat((_logits(1), _logits(2))))
    before = arguments.token_counts.clone()
    penalized, _ = sample(*arguments.all()).tolist()
    before[0, penalized] += 2
    assert torch.equal(arguments.token_counts, before)


def test_noise_is_gumbel_and_independent_over_seeds_positions_and_tokens():
    seeds, positions = torch.arange(-100, 100), torch.arange(200)
    noise = gumbel(seeds, positions, 1000)
    assert abs(noise.mean().item() - 0.5772) < 0.02
    assert abs(noise.var().item() - torch.pi**2 / 6) < 0.05
    assert noise.flatten().unique().numel() > 0.99 * noise.numel()
    one_position = gumbel(seeds, torch.zeros(200, dtype=torch.int64), 1000)
    assert torch.corrcoef(torch.stack([noise.flatten(), one_position.flatten()]))[0, 1].abs() < 0.01
    neighbours = torch.corrcoef(torch.stack([noise[:, 1:].flatten(), noise[:, :-1].flatten()]))
    assert neighbours[0, 1].abs() < 0.01


def test_candidates_are_the_likeliest_ids_in_order():
    logits = _logits()
    entries = to_logprobs(log_probabilities(logits, torch.tensor([17]), 4), 4)
    expected = logits.log_softmax(-1)[0]
    assert entries.logprobs == [pytest.approx(expected[17].item())]
    assert entries.candidate_tokens == expected.topk(4).indices.tolist()
    assert entries.candidate_logprobs == pytest.approx(expected.topk(4).values.tolist())
