"""The benchmarks' command line, with a tiny model on the CPU."""

import contextlib
import json

import pytest

from tandem_bench import cli, services
from tandem_bench.bench import Bench
from tandem_bench.engine_driver import EngineDriver
from tandem_bench.load import Lengths
from tandem_bench.settings import Settings
from tandem_bench.specs import random_specs
from tandem_bench.workloads import WORKLOADS, Workload

FLAGS = ["--shape=tiny", "--device=cpu", "--shrink=64", "--repetitions=2", "--engine-flag=--kv-cache-mib=16"]


@pytest.fixture
def flags(tmp_path):
    return [*FLAGS, f"--out={tmp_path}/out", f"--checkpoint-dir={tmp_path}", "--commit=abc"]


def test_workloads_are_measured_written_and_shown(tmp_path, flags, capsys):
    assert cli.main(["latency-16", "ttft-128", "mix256-top-p", "prefix", "prefill-1", *flags]) == 0
    names = "latency-16.ttft-128.mix256-top-p.prefix.prefill-1"
    result = json.loads((tmp_path / f"out/tiny.{names}.json").read_text())
    assert result["commit"] == "abc"
    figures = result["figures"]
    assert (figures["shape"], figures["device"], figures["shrink"]) == ("tiny", "cpu", 64)
    assert figures["engine_flags"] == {"kv_cache_mib": 16}
    found = {each["name"]: each for each in figures["measurements"]}
    assert len(found["latency-16"]["runs"]) == 2
    assert len(found["ttft-128"]["runs"]) == 20
    assert found["mix256-top-p"]["percent_of_bound"] > 0
    assert found["prefix-uncached"]["details"]["num_cached"] == [0, 0]
    shown = capsys.readouterr().out
    assert all(name in shown for name in found)


def test_the_prefix_cache_has_no_part_in_other_workloads(tmp_path, flags):
    parsed = cli._parser().parse_args(["latency-1", *flags])
    bench = Bench(cli._settings(parsed))
    lengths = Lengths.equal(4, 40, 3)
    runs = [bench.engine().run(random_specs(lengths, 512, f"run {number}")) for number in range(3)]
    assert [run.num_cached for run in runs] == [0, 0, 0]
    assert [run.num_tokens for run in runs] == [12, 12, 12]
    assert all(0 < first <= run.wall_s for run in runs for first in run.first_token_s)
    again = bench.engine().run(random_specs(lengths, 512, "run 0"))
    assert again.num_cached == 4 * 32
    assert again.tokens == runs[0].tokens


def test_a_workload_that_breaks_leaves_the_others_alone(tmp_path, flags, monkeypatch, capsys):
    def breaks(bench):
        raise RuntimeError("no room")
        yield

    monkeypatch.setitem(WORKLOADS, "serve", Workload("breaks", breaks))
    assert cli.main(["serve", "ceilings", "--name=both", *flags]) == 1
    figures = json.loads((tmp_path / "out/both.json").read_text())["figures"]
    assert figures["failures"] == [{"name": "serve", "error": "RuntimeError: no room"}]
    assert [each["name"] for each in figures["measurements"]] == [
        "ceiling-read",
        "ceiling-copy",
        "ceiling-matmul",
    ]
    assert "serve: FAILED: RuntimeError: no room" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("engine_flags", "engine_ms"), [({}, 4.0), ({"busy_poll_ms": 2.0}, 2.0)], ids=["both", "engine-flag-wins"]
)
def test_services_are_started_with_the_flags_of_the_run(tmp_path, monkeypatch, engine_flags, engine_ms):
    started = {}

    @contextlib.contextmanager
    def note(model, **options):
        started.update(options)
        yield

    monkeypatch.setattr(services, "started_services", note)
    bench = Bench(Settings(checkpoint_dir=tmp_path, busy_poll_ms=4.0, engine_flags=engine_flags))
    with services.running_services(bench, num_workers=2, max_num_seqs=7):
        pass
    assert started["num_workers"] == 2
    assert started["tokenizer_flags"] == ["--busy-poll-ms=4.0"]
    assert {f"--busy-poll-ms={engine_ms}", "--max-num-seqs=7"} <= set(started["engine_flags"])


def test_a_sequence_that_the_engine_does_not_hold_is_refused(tmp_path):
    settings = Settings(checkpoint_dir=tmp_path, engine_flags={"context_length": 64, "kv_cache_mib": 16})
    driver: EngineDriver = Bench(settings).engine()
    with pytest.raises(ValueError, match="a sequence of 65 tokens; the engine holds 64"):
        driver.run(random_specs(Lengths.equal(1, 60, 5), 512, "long"))


@pytest.mark.parametrize("shape", ["tiny", "tiny-llava"])
def test_the_accuracy_of_the_engine_is_that_of_transformers(tmp_path, flags, shape):
    assert cli.main(["accuracy", "--name=accuracy", *flags, "--shrink=16", f"--shape={shape}"]) == 0
    figures = json.loads((tmp_path / "out/accuracy.json").read_text())["figures"]
    ratios = {each["name"]: each["median"] for each in figures["measurements"]}
    assert ratios["accuracy-prefill"] == pytest.approx(1, abs=0.2)
    assert ratios["accuracy-decode"] == pytest.approx(1, abs=0.2)


def test_tower_and_preprocessing_are_measured_alone(tmp_path, flags):
    names = ["vision-tower", "vision-preprocess"]
    assert cli.main([*names, "--name=vision", *flags, "--shape=tiny-llava"]) == 0
    figures = json.loads((tmp_path / "out/vision.json").read_text())["figures"]
    found = {each["name"]: each for each in figures["measurements"]}
    assert list(found) == ["vision-tower-1", "vision-tower-32", "vision-preprocess"]
    assert found["vision-tower-32"]["details"]["percent_of_matmul_ceiling"] > 0
    assert all(len(each["runs"]) == 2 for each in figures["measurements"])


def test_a_shape_without_a_tower_sees_nothing(tmp_path, flags):
    assert cli.main(["vision-preprocess", "--name=blind", *flags]) == 1
    (failure,) = json.loads((tmp_path / "out/blind.json").read_text())["figures"]["failures"]
    assert failure["error"] == "ValueError: tiny sees nothing; take --shape LLaVA-1.5-7B"


def test_help_names_every_workload(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in WORKLOADS)
