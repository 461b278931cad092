"""`tandem bench serve`: its files, its statuses, and what Ctrl-C leaves."""

import json
import os
import re
import signal
import subprocess
import sys
from xml.etree import ElementTree

import pytest

from support.certificates import Certificates
from support.cli_process import tandem
from support.processes import running_service
from tandem.cli.services import free_address
from tandem_bench import cli as workloads_cli
from tandem_bench.serving import cli


@pytest.fixture(scope="module")
def engine():
    with running_service("engine_service", "--fake", "--fake-rate=0") as engine:
        yield engine


@pytest.fixture(scope="module")
def target(engine):
    with running_service("tokenizer_service", f"--engine={engine.address}") as tokenizer:
        yield tokenizer.address


def _result(directory, name="serve"):
    return json.loads((directory / f"{name}.json").read_text())


def test_closed_and_open_loops_are_measured_written_and_drawn(target, tmp_path, capsys):
    flags = [
        "--streams=1,4",
        "--rate=200",
        "--lengths=5:20",
        "--requests=12",
        "--clients=2",
        "--goal=9000:9000",
    ]
    assert cli.main([f"--target={target}", f"--out={tmp_path}", "--commit=abc", *flags]) == 0
    result = _result(tmp_path)
    assert (result["commit"], result["versions"]["python"]) == ("abc", sys.version.split()[0])
    loads = result["figures"]["loads"]
    assert [load["load"] for load in loads] == ["1 stream", "4 streams", "200 requests/s"]
    for load in loads:
        assert (load["num_requests"], load["errors"]) == (12, {})
        assert set(load["ttft"]) == set(load["tpot"]) == {"p50_ms", "p90_ms", "p99_ms"}
        assert 0 < load["ttft_in_core"]["p50_ms"] < load["ttft"]["p99_ms"]
        assert load["output_tokens_per_s"] == pytest.approx(12 * 20 / load["wall_s"], rel=1e-3)
        assert load["good_requests_per_s"] == load["requests_per_s"]
        assert {"clients", "tokenizer", "core"} <= set(load["cpu_s_per_million_tokens"])
    ElementTree.parse(tmp_path / "serve.svg")
    assert "200 requests/s" in capsys.readouterr().out


def test_refused_requests_are_counted_by_status(engine, tmp_path, capsys):
    with running_service("tokenizer_service", f"--engine={engine.address}", "--max-requests=1") as tokenizer:
        flags = ["--streams=16", "--lengths=5:500", "--requests=64", "--warm-up=0"]
        assert cli.main([f"--target={tokenizer.address}", f"--out={tmp_path}", *flags]) == 1
    [load] = _result(tmp_path)["figures"]["loads"]
    assert set(load["errors"]) == {"RESOURCE_EXHAUSTED"}
    assert 0 < load["errors"]["RESOURCE_EXHAUSTED"] < 64
    assert "RESOURCE_EXHAUSTED" in capsys.readouterr().out


def test_answers_of_one_token_have_no_gaps_to_compare(target, tmp_path, capsys):
    flags = ["--streams=2", "--lengths=5:1", "--slow-readers=1", "--slow-pause=0.01", "--repetitions=1"]
    assert cli.main([f"--target={target}", f"--out={tmp_path}", "--name=slow", *flags]) == 0
    assert "2 streams, ITL p99 beside slow readers: no answer had gaps" in capsys.readouterr().out
    compared = _result(tmp_path, "slow")["figures"]["slow_readers"]["2 streams"]
    assert compared["itl_p99_change_percent"] is None


def test_readers_are_compared_alone_and_beside_slow_ones(target, tmp_path):
    flags = ["--streams=4", "--lengths=5:100", "--slow-readers=3", "--slow-pause=0.01", "--repetitions=2"]
    assert cli.main([f"--target={target}", f"--out={tmp_path}", "--name=slow", *flags]) == 0
    figures = _result(tmp_path, "slow")["figures"]
    assert len(figures["loads"]) == 4
    compared = figures["slow_readers"]["4 streams"]
    assert len(compared["itl_p99_ms_alone"]) == len(compared["itl_p99_ms_beside"]) == 2
    assert compared["num_slow_answers"] >= 6
    assert compared["num_slow_not_whole"] == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--lengths=1000:1000"], "requests of up to 2000 tokens; the context length is 1024"),
        (["--target=127.0.0.1:1"], "UNAVAILABLE"),
        (["--target=", "--tls-ca=ca.pem"], "tls_ca='ca.pem': needs --target"),
    ],
    ids=["longer-than-the-context", "nobody-there", "tls-without-target"],
)
def test_what_cannot_be_measured_is_said_in_a_line(target, tmp_path, capsys, flags, words):
    assert cli.main([f"--target={target}", f"--out={tmp_path}", *flags]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_service_with_mutual_tls_and_tokens_is_measured(engine, tmp_path):
    files, address = Certificates(tmp_path), free_address()
    made = tandem("token", "bench")
    (tmp_path / "tokens.toml").write_text(made.stdout)
    (tmp_path / "token").write_text(re.search(r"\S{40,}", made.stderr)[0])
    wanted = [f"--tls-cert={files.cert}", f"--tls-key={files.key}", f"--tls-client-ca={files.ca}"]
    wanted += [f"--engine={engine.address}", f"--listen={address}", f"--tokens={tmp_path / 'tokens.toml'}"]
    shown = [f"--{name.replace('_', '-')}={path}" for name, path in files.client.items()]
    shown += [f"--token-file={tmp_path / 'token'}"]
    flags = [f"--target={address}", f"--out={tmp_path}", "--streams=2", "--lengths=5:100", "--requests=4"]
    with running_service("tokenizer_service", *wanted, wait=False) as tokenizer:
        while tandem("health", f"--target={address}", *shown).returncode:
            assert tokenizer.process.poll() is None, tokenizer.log.read_text()
        assert cli.main([*flags, *shown, "--slow-readers=1", "--slow-pause=0.01", "--repetitions=1"]) == 0
        assert cli.main([*flags, *shown[:-1]]) == cli.main(flags) == 2
    figures = _result(tmp_path)["figures"]
    assert figures["loads"][0]["errors"] == {}
    assert figures["slow_readers"]["2 streams"]["num_slow_not_whole"] == 0


@pytest.mark.parametrize(
    ("send", "number"),
    [
        # As a terminal does it: to the whole group, the command's own process and the one that measures.
        pytest.param(os.killpg, signal.SIGINT, id="ctrl-c"),
        # As supervisors do it: to the command alone.
        pytest.param(os.kill, signal.SIGTERM, id="sigterm"),
    ],
)
def test_an_end_from_outside_shows_what_there_is_and_ends_the_services(tmp_path, send, number):
    flags = [
        "--fake",
        "--fake-rate=20",
        "--streams=2",
        "--lengths=5:10",
        "--requests=500",
        f"--out={tmp_path}",
    ]
    command = [sys.executable, "-m", "tandem", "bench", "serve", *flags, "--warm-up=3"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell's background jobs, these tests perhaps, ignore Ctrl-C, and with them what they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    # Long before 500 requests of half a second each are over, and after some of them.
    for line in process.stderr:
        if "2 streams: 500 requests" in line:
            break
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    send(process.pid, number)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "2 streams" in out
    [load] = _result(tmp_path)["figures"]["loads"]
    assert load["was_interrupted"]
    assert 0 < load["num_requests"] < 500
    assert load["errors"] == {}
    assert {"tokenizer", "engine_server", "core"} <= set(load["cpu_s_per_million_tokens"])


def test_the_workload_sets_services_beside_the_engine(tmp_path):
    flags = ["--shape=tiny", "--device=cpu", "--shrink=64", "--repetitions=1", "--commit=abc"]
    flags += ["--engine-flag=--kv-cache-mib=16", "--workers=2", "--streams=1,4", "--name=beside"]
    assert workloads_cli.main(["serve", *flags, f"--out={tmp_path}", f"--checkpoint-dir={tmp_path}"]) == 0
    found = {each["name"]: each for each in _result(tmp_path, "beside")["figures"]["measurements"]}
    assert found["serve-4-workers-2"]["details"]["cpu"][0]["cpu_s_per_million_tokens"]["tokenizer"] >= 0
    assert found["serve-4-workers-2-share"]["median"] > 0
    assert found["serve-1-workers-2-ttft-added"]["details"]["engine_p50_ms"] > 0
    others = {"serve-1-workers-2-itl-added", "serve-4-workers-2-itl-added", "serve-poisson-workers-2"}
    assert others <= set(found)
