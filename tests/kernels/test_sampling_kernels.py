"""The kernels of sampling against plain torch, with all kinds of sampling in one batch."""

import importlib
import itertools

import pytest
import torch

from engine_service.sampling_params import SamplingParams
from support.kernel_checks import kernel_device, random_tensor
from support.sampling_cases import KINDS, SampleArguments, make_sequences
from tandem_kernels import reference_sample
from tandem_kernels.sample import sample
from tandem_kernels.sequence_state import Column

DEVICE = kernel_device()
ON_GPU = DEVICE.type == "cuda"
# At least the 300 ids that KINDS biases.
VOCABS = [303, 4096, 50257, 128256] if ON_GPU else [303, 700]
VOCAB = VOCABS[-1]
OUTPUT = (5, 5, 39)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch):
    if not ON_GPU:  # the interpreter has time for few logits, and they should be several tiles
        launcher = importlib.import_module("tandem_kernels.sample")
        for name, size in {"TILE": 256, "GROUP": 16, "PICK_TILE": 256}.items():
            monkeypatch.setattr(launcher, name, size)


def _arguments(logits, params=None, **fields):
    params = params or itertools.islice(itertools.cycle(KINDS.values()), len(logits))
    fields = {"min_tokens": 9, "stop_token_ids": frozenset({8, 9}), "output": OUTPUT} | fields
    return SampleArguments.of(make_sequences(params, **fields), logits)


def _logits(num_seqs, vocab_size=VOCAB, seed=0, scale=3.0):
    return scale * random_tensor(num_seqs, vocab_size, seed=seed)


def _assert_draws_agree(arguments):
    """All but rounding is as in the reference; returns what the kernels and the reference drew."""
    ours = arguments.to(DEVICE)
    drawn = sample(*ours.all()).cpu()
    assert torch.equal(ours.logits.cpu(), arguments.logits)
    expected = arguments.to(torch.device("cpu"))
    expected_drawn = reference_sample.sample(*expected.all())
    for index in (drawn != expected_drawn).nonzero()[:, 0].tolist():
        assert drawn[index] in _possible_draws(expected, index), (index, drawn[index], expected_drawn[index])
    torch.testing.assert_close(ours.adjusted.cpu(), expected.adjusted, equal_nan=True)
    _assert_taken_in(ours, arguments, drawn)
    return drawn, expected_drawn


def _assert_taken_in(ours, before, drawn):
    state, counts = before.state.clone(), before.token_counts.clone()
    state[before.rows, Column.LAST_TOKEN] = drawn
    for row, token in zip(before.rows.tolist(), drawn.tolist(), strict=True):
        counts[row, token] += 2 * state[row, Column.HAS_PENALTIES]
    assert torch.equal(ours.state.cpu(), state)
    assert torch.equal(ours.token_counts.cpu(), counts)


def _possible_draws(arguments, index):
    """Tokens that a slightly different rounding may draw, by float64."""
    words = arguments.state[arguments.rows[index]]
    temperature, top_p, min_p = words[[Column.TEMPERATURE, Column.TOP_P, Column.MIN_P]].view(torch.float32)
    logits = arguments.adjusted[index]
    logits = (arguments.logits[index] if logits.isnan().all() else logits).double()
    if temperature == 0:
        return (logits >= logits.max() - 1e-6 * logits.max().abs()).nonzero()[:, 0].tolist()
    scaled = logits / temperature
    slack = 1e-5 * (1 + scaled.max().abs())
    values, order = scaled.sort(descending=True, stable=True)
    top = values[: words[Column.TOP_K]]
    before = torch.ones_like(values).index_put((torch.arange(len(top)),), top.softmax(0).cumsum(0))
    before = before.roll(1).index_fill(0, torch.tensor([0]), 0)

    def kept(by):
        is_kept = (before < top_p + by) | (top_p >= 1)
        return is_kept & (values >= top[-1] - by) & ((values - values[0]).exp() >= min_p - by)

    low, high = words[[Column.SEED_LOW, Column.SEED_HIGH]].long()
    seed = (high << 32 | low & 0xFFFFFFFF).unsqueeze(0)
    noise = reference_sample.gumbel(seed, arguments.positions[index : index + 1], len(scaled))[0]
    perturbed = values + noise[order]
    least = perturbed[kept(-slack)].max(dim=0).values if kept(-slack).any() else -float("inf")
    return order[kept(slack) & (perturbed >= least - slack)].tolist()


@pytest.mark.parametrize("vocab_size", VOCABS)
@pytest.mark.parametrize("num_seqs", [1, 7, 256] if ON_GPU else [1, len(KINDS)])
def test_draws_are_the_reference_s(num_seqs, vocab_size):
    arguments = _arguments(_logits(num_seqs, vocab_size, seed=num_seqs))
    drawn, expected = _assert_draws_agree(arguments)
    assert (drawn != expected).float().mean() <= 0.02


def test_draws_of_many_seeds_and_positions_are_the_reference_s():
    num_seqs = 1000 if ON_GPU else 20
    arguments = _arguments(_logits(1, seed=5).repeat(num_seqs, 1), [KINDS["top-p"]] * num_seqs)
    generator = torch.Generator().manual_seed(1)
    bounds = -(2**31), 2**31
    seeds = torch.randint(*bounds, (num_seqs, 2), generator=generator)
    arguments.state[:num_seqs, Column.SEED_LOW : Column.SEED_HIGH + 1] = seeds.int()
    arguments.positions[:] = torch.randint(0, 100_000, (num_seqs,), generator=generator)
    drawn, expected = _assert_draws_agree(arguments)
    assert (drawn != expected).float().mean() <= 0.02


@pytest.mark.parametrize(
    "make_logits",
    [
        pytest.param(lambda: _logits(len(KINDS)).round(), id="ties"),
        pytest.param(lambda: torch.zeros(len(KINDS), VOCABS[-1 if ON_GPU else 0]), id="all-equal"),
        pytest.param(lambda: _logits(len(KINDS), scale=100.0), id="peaked"),
        pytest.param(lambda: _logits(len(KINDS), scale=1e-3) - 1e4, id="far-from-zero"),
        pytest.param(lambda: _logits(len(KINDS)).to(torch.bfloat16).float(), id="from-bfloat16"),
        pytest.param(lambda: _masked(0.9), id="nine-tenths-minus-inf"),
        pytest.param(lambda: _masked(1.0), id="one-finite"),
    ],
)
def test_odd_logits(make_logits):
    _assert_draws_agree(_arguments(make_logits()))


def _masked(share):
    """Logits of -inf but for a share, and for one that no rule touches."""
    logits = _logits(len(KINDS))
    logits[torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)) < share] = float("-inf")
    logits[:, 44] = 0.5
    return logits


@pytest.mark.parametrize("value", [float("-inf"), float("nan")], ids=["minus-inf", "nan"])
def test_without_any_likely_token_some_token_is_drawn(value):
    arguments = _arguments(torch.full((len(KINDS), VOCAB), value)).to(DEVICE)
    drawn = sample(*arguments.all())
    assert ((drawn >= 0) & (drawn < VOCAB)).all()


def test_of_equal_logits_truncation_keeps_the_first_ids():
    params = [SamplingParams(top_k=3, seed=seed) for seed in range(100 if ON_GPU else 5)]
    arguments = _arguments(torch.ones(len(params), VOCABS[0]), params, output=())
    drawn, expected = _assert_draws_agree(arguments)
    assert torch.equal(drawn, expected)
    assert set(drawn.tolist()) <= {0, 1, 2}


def test_only_adjusted_rows_are_written():
    arguments = _arguments(_logits(4), list(KINDS.values())[:4], min_tokens=0).to(DEVICE)
    sample(*arguments.all())
    assert arguments.adjusted.isnan().all()


def test_padding_shares_a_row():
    arguments = _arguments(_logits(6), list(KINDS.values())[9:15])
    scratch_row = len(arguments.state) - 1
    arguments.rows[2:5] = scratch_row
    arguments = arguments.to(DEVICE)
    before = arguments.state.clone(), arguments.token_counts.clone()
    drawn = sample(*arguments.all())
    assert torch.equal(drawn[2:5], arguments.logits[2:5].argmax(-1).int())
    assert arguments.state[scratch_row, Column.LAST_TOKEN] in drawn[2:5]
    assert torch.equal(arguments.state[2:5], before[0][2:5])
    assert torch.equal(arguments.token_counts[scratch_row], before[1][scratch_row])


def test_a_draw_does_not_depend_on_the_other_rows():
    arguments = _arguments(_logits(len(KINDS), seed=3)).to(DEVICE)
    alone = [
        sample(*arguments.only(index).all()).item() for index in range(0, len(KINDS), 1 if ON_GPU else 5)
    ]
    drawn = sample(*arguments.all()).tolist()
    assert drawn[:: 1 if ON_GPU else 5] == alone


@pytest.mark.skipif(not ON_GPU, reason="graphs are captured on a GPU")
def test_replays_draw_what_the_launch_drew():
    arguments = _arguments(_logits(64)).to(DEVICE)
    fresh = arguments.to(DEVICE)
    expected = sample(*arguments.to(DEVICE).all())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        drawn = sample(*arguments.all())
    for _ in range(3):
        arguments.token_counts.copy_(fresh.token_counts)
        drawn.fill_(-1)
        graph.replay()
        assert torch.equal(drawn, expected)
