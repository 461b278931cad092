"""The README's figures from results, the same each time."""

import json
import xml.etree.ElementTree

import pytest

from tandem_bench import report
from tandem_bench.measurement import Measurement

README = "before\n<!-- benchmarks:begin -->\n\nold\n\n<!-- benchmarks:end -->\nafter\n"


def _result(directory, name, measurements, **changes):
    figures = {
        "shape": "Llama-3.2-1B", "device": "cuda", "dtype": "bfloat16", "shrink": 1, "engine_flags": {},
        "failures": [],
    }  # fmt: skip
    result = {
        "name": name,
        "commit": "abc",
        "measured_at": changes.pop("measured_at", "2026-11-22T10:00:00+00:00"),
        "machine": {"gpus": ["NVIDIA H200, 570.1"]},
        "figures": figures | {"measurements": [each.to_json() for each in measurements]} | changes,
    }
    (directory / f"{name}.json").write_text(json.dumps(result))


@pytest.fixture
def folder(tmp_path):
    results = tmp_path / "benchmarks/results"
    results.mkdir(parents=True)
    (tmp_path / "README.md").write_text(README)
    (results / "token_transport.json").write_text(json.dumps({"name": "other", "figures": {"rate": 1}}))
    return tmp_path


def _report(folder):
    where = ["--results", str(folder / "benchmarks/results"), "--readme", str(folder / "README.md")]
    return report.main(where)


def test_the_readme_has_the_latest_figures_beside_their_peers(folder):
    results = folder / "benchmarks/results"
    step = Measurement("latency-1", "ms/step", [0.8], bound=0.54)
    older = Measurement("latency-1", "ms/step", [0.9], bound=0.54)
    peer = Measurement("latency-1-transformers-eager", "ms/step", [16.0])
    rate = Measurement("mix256", "tokens/s", [50000.0], bound=100000.0, is_rate=True)
    _result(results, "a", [step, peer], measured_at="2026-11-23T10:00:00+00:00")
    _result(results, "b", [older, rate])
    assert _report(folder) == 0
    text = (folder / "README.md").read_text()
    assert text.startswith("before\n<!-- benchmarks:begin -->\n\n| Llama-3.2-1B |")
    assert text.endswith("<!-- benchmarks:end -->\nafter\n")
    assert "| decode, 1 sequence | 0.800 ms/step | 68 % |  | 16.0 | 1.50 |" in text
    assert "| 256 mixed requests | 50,000 tokens/s | 50 % |  |  | 30,590 |" in text
    assert "measured elsewhere" in text
    assert "old" not in text


def test_pictures_stand_beside_their_peer(folder):
    rate = Measurement("vision-fresh", "images/s", [40.0], bound=50.0, is_rate=True)
    first_ms = Measurement("vision-ttft-repeated", "ms", [9.5], bound=3.0)
    _result(folder / "benchmarks/results", "a", [rate, first_ms], shape="LLaVA-1.5-7B")
    assert _report(folder) == 0
    text = (folder / "README.md").read_text()
    assert "| 64 new images at once | 40.0 images/s | 80 % |  |  | 33.2 |" in text
    assert "| first token, known image | 9.50 ms | 32 % |  |  | 38.0 |" in text
    assert (folder / "benchmarks/results/LLaVA-1.5-7B.svg").exists()


def test_a_second_report_changes_nothing(folder):
    _result(folder / "benchmarks/results", "a", [Measurement("latency-1", "ms/step", [0.8], bound=0.54)])
    paths = (folder / "README.md", folder / "benchmarks/results/Llama-3.2-1B.svg")
    _report(folder)
    first = [path.read_text() for path in paths]
    _report(folder)
    assert [path.read_text() for path in paths] == first
    root = xml.etree.ElementTree.fromstring(first[1])
    assert root.tag.endswith("svg")


@pytest.mark.parametrize(
    "changes",
    [{"device": "cpu"}, {"shrink": 8}, {"engine_flags": {"eager": True}}],
    ids=["cpu", "tried-out", "with-flags"],
)
def test_what_is_no_gpu_figure_leaves_the_readme_alone(folder, changes):
    _result(folder / "benchmarks/results", "a", [Measurement("latency-1", "ms/step", [9.0])], **changes)
    assert _report(folder) == 0
    assert (folder / "README.md").read_text() == README


def test_other_gpus_are_not_put_beside_figures_of_this_one(folder):
    results = folder / "benchmarks/results"
    _result(results, "a", [Measurement("latency-1", "ms/step", [0.8], bound=0.54)])
    path = results / "a.json"
    path.write_text(path.read_text().replace("NVIDIA H200", "NVIDIA L4"))
    _report(folder)
    assert "measured elsewhere." not in (folder / "README.md").read_text()


def test_a_readme_without_markers_is_one_line(folder, capsys):
    _result(folder / "benchmarks/results", "a", [Measurement("latency-1", "ms/step", [0.8])])
    (folder / "README.md").write_text("nothing")
    assert _report(folder) == 1
    assert "benchmarks:begin" in capsys.readouterr().err
