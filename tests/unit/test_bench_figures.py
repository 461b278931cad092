"""The benchmarks' arithmetic: steps, floors, percentiles, lengths."""

import math

import pytest

from tandem_bench.ceilings import Ceilings
from tandem_bench.floor import Floor
from tandem_bench.load import Lengths, mix, random_prompts
from tandem_bench.measurement import Measurement, percentiles, table
from tandem_bench.settings import parse_engine_flags
from tandem_bench.shapes import SHAPES
from tandem_bench.vision_floor import VisionFloor
from tandem_bench.workloads.latency import ms_per_step
from tandem_bench.workloads.soak import growth_mib

H200 = Ceilings(read_bytes_per_s=4.63e12, copy_bytes_per_s=4.25e12, matmul_flop_per_s=750e12)


def test_a_step_is_what_510_more_tokens_take():
    prefill_s, step_s = 0.25, 0.0007
    long_s, short_s = prefill_s + 511 * step_s, prefill_s + 1 * step_s
    assert ms_per_step(long_s, short_s, 512, 2) == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("name", "floor_ms"),
    [("Llama-3.2-1B", 0.534), ("Llama-3.2-3B", 1.39), ("Llama-3.1-8B", 3.24), ("Qwen2.5-1.5B", 0.67)],
)
def test_the_floor_of_a_lone_sequence_is_the_weights(name, floor_ms):
    floor = Floor(SHAPES[name], H200, element_bytes=2)
    assert floor.decode_step_s(1, 0) * 1e3 == pytest.approx(floor_ms, rel=0.01)


@pytest.mark.parametrize(
    ("name", "kilobytes"), [("Llama-3.2-1B", 32), ("Llama-3.2-3B", 112), ("Qwen2.5-7B", 56)]
)
def test_keys_and_values_of_a_token(name, kilobytes):
    assert Floor(SHAPES[name], H200, element_bytes=2).kv_bytes_per_token == kilobytes * 1024


def test_large_steps_are_bound_by_arithmetic_and_requests_add_up():
    floor = Floor(SHAPES["Llama-3.1-8B"], H200, element_bytes=2)
    weights = 8.03e9 - 128256 * 4096
    assert floor.prefill_s([3968]) == pytest.approx(2 * weights * 3968 / 750e12, rel=0.1)
    lengths = Lengths((10, 20), (1, 3))
    steps_s = floor.decode_step_s(1, 21) + floor.decode_step_s(1, 22)
    assert floor.requests_s(lengths) == pytest.approx(floor.prefill_s([10, 20]) + steps_s)


def test_the_floor_of_pictures_and_of_their_language_model():
    shape = SHAPES["LLaVA-1.5-7B"]
    vision, text = VisionFloor(shape, H200, element_bytes=2), Floor(shape, H200, element_bytes=2)
    # 304 million weights of the tower and 21 million of the projector; 577 places, one layer unused.
    assert vision.weight_bytes == pytest.approx(2 * 325e6, rel=0.01)
    assert vision.operations == pytest.approx(
        2 * 577 * (23 * 12.6e6 + 21e6) + 23 * 4 * 577**2 * 1024, rel=0.01
    )
    assert vision.see_s(32) == 32 * vision.see_s(1)
    # The tower's weights have no part in a step of the language model.
    assert text.decode_step_s(1, 0) * 1e3 == pytest.approx(2 * (6.74e9 - 32064 * 4096) / 4.63e9, rel=0.01)
    lengths = Lengths.equal(64, 640, 64)
    assert 64 / (vision.see_s(64) + text.requests_s(lengths)) == pytest.approx(52, abs=1)


def test_percent_of_bound_is_100_at_the_bound():
    assert Measurement("step", "ms/step", [1.0, 2.0, 3.0], bound=1.0).percent_of_bound == 50
    assert Measurement("rate", "tokens/s", [50.0], bound=100.0, is_rate=True).percent_of_bound == 50
    assert Measurement("plain", "s", [50.0]).percent_of_bound is None


def test_percentiles_take_the_nearest_rank():
    found = percentiles([float(each) for each in range(1, 201)], "ms")
    assert found == {"p50_ms": 100.5, "p90_ms": 180.0, "p99_ms": 198.0}
    assert percentiles([3.0], "ms") == {"p50_ms": 3.0, "p90_ms": 3.0, "p99_ms": 3.0}
    assert percentiles([], "ms") == {}


def test_the_mixes_are_the_ones_that_peers_ran():
    assert [len(mix(name).inputs) for name in ("mix256", "mix1024")] == [256, 1024]
    small = mix("mix256").shrunk(64)
    assert len(small.inputs) == len(small.outputs) == 4
    assert all(1 <= each <= 16 for each in small.inputs + small.outputs)


def test_prompts_of_other_runs_share_no_prefix():
    prompts = random_prompts([64] * 8, 512, "one 1") + random_prompts([64] * 8, 512, "one 2")
    assert len({prompt[:16] for prompt in prompts}) == 16
    assert random_prompts([64] * 8, 512, "one 1") == prompts[:8]


def test_growth_is_between_the_first_and_the_last_tenth():
    samples = [{"core": float(each), "gpu": 7.0} for each in range(20)]
    assert growth_mib(samples) == {"core": 18.0, "gpu": 0.0}


def test_engine_flags_are_those_of_the_engine():
    flags = ["--max-num-seqs=256", "--no-prefix-caching", "--kv-cache-mib=64"]
    assert parse_engine_flags(flags) == {"max_num_seqs": 256, "prefix_caching": False, "kv_cache_mib": 64}
    with pytest.raises(SystemExit):
        parse_engine_flags(["--no-such-flag=1"])


def test_a_table_is_aligned():
    assert table([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc  d"
    assert math.isclose(Measurement("x", "s", [1.0, 9.0, 2.0]).median, 2.0)
