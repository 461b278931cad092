"""Steps by graphs draw what the same steps without graphs draw, whatever joins and leaves."""

import pytest

from engine_service import upload
from engine_service.cuda_graph import PREFILL_TOKENS
from engine_service.sampling_params import SamplingParams
from engine_service.sequence import FinishReason, SequenceSpec
from support.checkpoints import random_model, save
from support.local_core import LocalCore
from support.mixed_work import VOCAB, run_mixed_work

HALF = {"device": "cuda", "dtype": "bfloat16"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    model = random_model("qwen3", hidden_size=128, head_dim=64, num_hidden_layers=2)
    return save(model, tmp_path_factory.mktemp("graphs"))


def _both(checkpoint, run, **flags):
    """What graphs and eager steps came to; `run` gets a core of each."""
    cores = [LocalCore(checkpoint, **(HALF | flags), eager=eager) for eager in (False, True)]
    for core in cores:
        run(core)
    return cores


def _assert_same(graphs, eager):
    assert graphs.tokens == eager.tokens
    assert graphs.finished == eager.finished
    assert graphs.logprobs == eager.logprobs
    assert graphs.prompt_logprobs == eager.prompt_logprobs


def test_a_core_has_a_graph_for_every_size(checkpoint):
    core = LocalCore(checkpoint, **HALF, max_num_seqs=16)
    graphs = core.core._runner._graphs
    assert graphs._decode.sizes == {1, 2, 4, 8, 16}
    assert {shape.num_tokens for shape in graphs._prefill.sizes} == set(PREFILL_TOKENS)


@pytest.mark.parametrize("seed", range(3))
def test_every_kind_of_sampling_while_sequences_join_and_leave(checkpoint, seed):
    _assert_same(*_both(checkpoint, lambda core: run_mixed_work(core, seed=seed, logprobs=True)))


@pytest.mark.parametrize("block_size", [1, 16], ids=["block1", "block16"])
def test_200_sequences_through_64_rows(checkpoint, block_size):
    _assert_same(*_both(checkpoint, lambda core: run_mixed_work(core, 200), kv_block_size=block_size))


@pytest.mark.parametrize("block_size", [1, 16], ids=["block1", "block16"])
def test_preemption(checkpoint, block_size):
    cores = _both(
        checkpoint,
        lambda core: run_mixed_work(core, cancel_share=0.05),
        kv_block_size=block_size,
        num_blocks=512 // block_size,
    )
    assert cores[0].scheduler.num_preemptions == cores[1].scheduler.num_preemptions > 0
    _assert_same(*cores)


def test_prefix_hits(checkpoint):
    def run(core):
        for number in range(9):
            core.generate(SequenceSpec((*range(48), number), 20, SamplingParams(seed=number)))

    cores = _both(checkpoint, run)
    assert [cores[0].started[number].num_cached for number in range(9)] == [0] + [48] * 8
    _assert_same(*cores)


def test_prompts_in_chunks_beside_decoding_sequences(checkpoint):
    _assert_same(*_both(checkpoint, lambda core: run_mixed_work(core, logprobs=True), max_prefill_tokens=20))


def test_cancelling_leaves_no_block_and_no_token(checkpoint):
    cancelled = []
    cores = _both(checkpoint, lambda core: cancelled.append(run_mixed_work(core, cancel_share=0.9)))
    assert len(cancelled[0]) > 10
    assert not cancelled[0] & cores[0].finished.keys()
    _assert_same(*cores)


def test_prompts_longer_than_the_largest_graph(tmp_path):
    save(random_model("llama", max_position_embeddings=2048), tmp_path)

    def run(core):
        run_mixed_work(core, 12, max_prompt=1500, logprobs=True)

    _assert_same(*_both(tmp_path, run, max_prefill_tokens=1400))


def test_a_context_that_is_no_number_of_whole_blocks(tmp_path):
    save(random_model("llama", max_position_embeddings=250), tmp_path)

    def run(core):
        core.generate(SequenceSpec(tuple(range(97)) * 2, 56, SamplingParams(temperature=0.0)))

    cores = _both(tmp_path, run)
    assert cores[0].finished == {0: FinishReason.LENGTH}
    _assert_same(*cores)


def test_block_tables_that_take_many_copies_arrive(checkpoint, monkeypatch):
    spec = SequenceSpec(tuple(range(97)), 100, SamplingParams(temperature=0.0))
    flags = HALF | {"kv_block_size": 1, "max_num_seqs": 8}
    expected = LocalCore(checkpoint, **flags).generate(spec)
    monkeypatch.setattr(upload, "MAX_CHANGES", 16)
    assert LocalCore(checkpoint, **flags).generate(spec) == expected


def test_no_stop_token_is_drawn_before_min_tokens(checkpoint):
    # Four of ten tokens stop: without the rule none of eight sequences would come to 20 tokens.

    def run(core):
        stops = frozenset(range(VOCAB - 40, VOCAB))
        for number in range(8):
            params = SamplingParams(seed=number)
            core.submit(number, SequenceSpec((1, 2, 3), 40, params, 20, stop_token_ids=stops))
        core.run()
        assert all(not stops & set(tokens[:20]) for tokens in core.tokens.values())
        assert set(core.finished.values()) == {FinishReason.STOP_TOKEN}

    _assert_same(*_both(checkpoint, run))


def test_greedy_with_penalties_equals_the_cpu(local_core, tmp_path):
    save(random_model("llama"), tmp_path)
    params = SamplingParams(
        temperature=0.0, repetition_penalty=1.4, presence_penalty=0.3, frequency_penalty=0.6
    )
    spec = SequenceSpec((3, 1, 4, 1, 5, 9, 2, 6), 100, params)
    assert local_core(tmp_path, max_num_seqs=8).generate(spec) == LocalCore(tmp_path).generate(spec)
