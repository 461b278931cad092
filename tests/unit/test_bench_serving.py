"""Loads and what is made of their answers: arithmetic, arrivals, shares, plots."""

from xml.etree import ElementTree

import pytest

from tandem_bench.line_chart import line_chart
from tandem_bench.load import Lengths, mix
from tandem_bench.serving.cpu import CpuUse
from tandem_bench.serving.figures import Figures, Goal
from tandem_bench.serving.job import shares
from tandem_bench.serving.load_plan import Load, parse_lengths
from tandem_bench.serving.report import loads_table
from tandem_bench.serving.run import Work
from tandem_bench.serving.timed_answer import TimedAnswer

LENGTHS = Lengths((3, 5), (7, 9))
CPU = CpuUse({"tokenizer": 2.0, "clients": 1.0}, {"tokenizer": 1.5, "clients": 1.0}, {"tokenizer": 90.0})


def _answer(start_s, arrivals_s, num_tokens, **changes):
    fields = {"end_s": arrivals_s[-1] if arrivals_s else start_s}
    return TimedAnswer(4, start_s, arrivals_s=arrivals_s, num_tokens=num_tokens, **(fields | changes))


def test_times_of_an_answer():
    answer = _answer(10.0, [10.5, 10.6, 10.9], 5)
    assert answer.first_ms == pytest.approx(500)
    assert answer.gaps_ms == pytest.approx([100, 300])
    assert answer.per_token_ms == pytest.approx(400 / 4)
    assert _answer(1.0, [1.5], 1).per_token_ms is None


def test_figures_count_whole_answers_and_name_the_others_by_status():
    answers = [
        _answer(10.0, [10.5, 11.0], 6, core_ms=480.0),
        _answer(10.0, [10.2, 12.0], 3, core_ms=160.0),
        _answer(10.0, [], 0, status="RESOURCE_EXHAUSTED"),
        _answer(10.0, [10.1], 1, status="INCOMPLETE"),
    ]
    found = Figures("2 streams", answers, 10.0, CPU, Goal(300, 1000)).to_json()
    assert found["errors"] == {"RESOURCE_EXHAUSTED": 1, "INCOMPLETE": 1}
    assert (found["wall_s"], found["requests_per_s"], found["output_tokens_per_s"]) == (2.0, 1.0, 5.0)
    assert found["ttft"] == {"p50_ms": 350, "p90_ms": 500, "p99_ms": 500}
    assert found["ttft_in_core"] == {"p50_ms": 320, "p90_ms": 480, "p99_ms": 480}
    assert found["itl"]["p50_ms"] == 1150
    assert found["good_requests_per_s"] == 0.5
    assert found["cpu_s_per_million_tokens"]["tokenizer"] == 200_000
    assert found["busiest_process_percent_of_core"]["tokenizer"] == 75
    assert "1 RESOURCE_EXHAUSTED, 1 INCOMPLETE" in loads_table([found])


def test_figures_without_answers_are_empty():
    found = Figures("2 streams", [], 10.0, CpuUse({}, {}, {})).to_json()
    assert (found["wall_s"], found["requests_per_s"], found["ttft"]) == (0.0, 0.0, {})
    assert "2 streams" in loads_table([found])


def test_arrivals_repeat_with_their_seed_and_have_the_rate():
    work = Work(LENGTHS, 100, seed="a")
    load = Load(rate=50, num_requests=2000)
    due_s = [request.due_s for request in work.job(load).requests]
    assert due_s == [request.due_s for request in work.job(load).requests]
    assert due_s == sorted(due_s)
    assert due_s[-1] == pytest.approx(2000 / 50, rel=0.1)
    assert due_s != [request.due_s for request in Work(LENGTHS, 100, seed="b").job(load).requests]


def test_a_load_goes_through_the_lengths_over_and_over():
    job = Work(LENGTHS, 100).job(Load(num_streams=2, num_requests=5))
    assert [(len(each.token_ids), each.num_output) for each in job.requests] == [(3, 7), (5, 9)] * 2 + [
        (3, 7)
    ]
    assert {each.due_s for each in job.requests} == {None}


def test_the_warm_up_has_other_prompts():
    work, load = Work(LENGTHS, 1000), Load(num_streams=2)
    prompts = {each.token_ids for each in work.job(load).requests}
    assert not prompts & {each.token_ids for each in work.warm_up(load, 8).requests}


@pytest.mark.parametrize(("num_streams", "num_processes"), [(1, 4), (5, 2), (8, 4), (3, 3)])
def test_processes_share_streams_and_requests(num_streams, num_processes):
    job = Work(LENGTHS, 100).job(Load(num_streams=num_streams, num_requests=20))
    parts = shares(job, num_processes)
    assert len(parts) == min(num_streams, num_processes)
    assert sum(part.num_streams for part in parts) == num_streams
    assert max(part.num_streams for part in parts) - min(part.num_streams for part in parts) <= 1
    assert {request for part in parts for request in part.requests} == set(job.requests)
    assert sum(len(part.requests) for part in parts) == len(job.requests)


def test_lengths_are_a_mix_or_a_pair():
    assert parse_lengths("mix256") == mix("mix256")
    assert parse_lengths("latency") == Lengths((128,), (512,))
    assert parse_lengths("12:34") == Lengths((12,), (34,))
    for wrong in ("mix", "0:3", "3:", "1:2:3"):
        with pytest.raises(ValueError, match="is none of mix256, mix1024, latency and IN:OUT"):
            parse_lengths(wrong)


def test_a_plot_has_a_point_for_each_value():
    svg = line_chart("latency", ["1 stream", "<2>"], {"TTFT": [10.0, 200.0], "ITL": [None, 0.5]}, "ms")
    root = ElementTree.fromstring(svg)
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3
    tops = [float(circle.get("cy")) for circle in circles]
    assert tops[1] < tops[0] < tops[2]
