"""Too little memory is one line or fewer graphs; a CUDA error ends the core and nothing more."""

import subprocess
import sys

import pytest
import torch

from engine_service.cuda_graph import PREFILL_TOKENS
from engine_service.graphs import Graphs
from engine_service.sampling_params import SamplingParams
from engine_service.sequence import SequenceSpec
from support.checkpoints import random_model, save
from support.local_core import LocalCore
from support.python_path import with_support

SPEC = SequenceSpec((3, 1, 4, 1, 5), 20, SamplingParams(temperature=0.0))
FLAGS = {"device": "cuda", "dtype": "float32", "max_num_seqs": 8}
NUM_GRAPHS = 4 + len(PREFILL_TOKENS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(random_model("llama"), tmp_path_factory.mktemp("failures"))


@pytest.fixture(scope="module")
def expected(checkpoint):
    return LocalCore(checkpoint, **FLAGS).generate(SPEC)


@pytest.mark.parametrize("room", [0, 1, 4, 7])
def test_out_of_memory_during_capture_leaves_fewer_graphs(checkpoint, expected, monkeypatch, caplog, room):
    capture, sizes = Graphs._capture, []

    def capture_some(self, size):
        if len(sizes) == room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(size)
        return capture(self, size)

    monkeypatch.setattr(Graphs, "_capture", capture_some)
    core = LocalCore(checkpoint, **FLAGS)
    assert f"no memory for {NUM_GRAPHS - room} of {NUM_GRAPHS} graphs" in caplog.text
    assert core.generate(SPEC) == expected


# Counted from what is taken when capturing begins; the second capture or a later one needs more.
SMALL = """
import sys, torch
from engine_service import loading
from engine_service.sampling_params import SamplingParams
from engine_service.sequence import SequenceSpec
from support.local_core import LocalCore
from tandem_service.logs import set_up_logging

capture = loading.capture_in_turn

def capture_in_little_memory(captures):
    room = torch.cuda.memory_reserved() + ({more_mib} << 20)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(room / total)
    num_captured = capture(captures)
    print("captured", num_captured)
    return num_captured

loading.capture_in_turn = capture_in_little_memory
set_up_logging()
core = LocalCore({model!r}, device="cuda", dtype="float32", max_num_seqs=8)
print(core.generate(SequenceSpec((3, 1, 4, 1, 5), 20, SamplingParams(temperature=0.0))))
"""


def _python(code, timeout_s=100):
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, env=with_support(), check=False
    )


@pytest.mark.parametrize("more_mib", [0, 4])
def test_real_out_of_memory_during_capture_leaves_fewer_graphs(checkpoint, expected, more_mib):
    result = _python(SMALL.format(model=str(checkpoint), more_mib=more_mib))
    assert result.returncode == 0, result.stderr
    captured, tokens = result.stdout.splitlines()
    num_captured = int(captured.removeprefix("captured "))
    assert num_captured < NUM_GRAPHS
    assert f"no memory for {NUM_GRAPHS - num_captured} of {NUM_GRAPHS} graphs" in result.stderr
    assert tokens == str(expected)


@pytest.mark.parametrize(
    ("share", "words"),
    [
        pytest.param(
            1e-7, r"the weights take 0\.00 GiB, and cuda:0 has .* leaves -?\d+\.\d\d GiB", id="weights"
        ),
        pytest.param(2e-3, r"no memory for the KV cache: weights .*, workspace .*, graphs 0\.50", id="cache"),
    ],
)
def test_too_little_memory_is_one_line_with_the_numbers(checkpoint, share, words):
    with pytest.raises(ValueError, match=words) as error:
        LocalCore(checkpoint, **FLAGS, kv_cache_mib=0, gpu_memory_utilization=share)
    assert "\n" not in str(error.value)


def test_a_kv_cache_larger_than_the_gpu_is_one_line_with_its_size(checkpoint):
    mib = torch.cuda.get_device_properties(0).total_memory >> 20
    with pytest.raises(ValueError, match=r"no memory for a KV cache of \d+ MiB; lower --kv-cache-mib"):
        LocalCore(checkpoint, **FLAGS, kv_cache_mib=mib)


def test_the_kv_cache_takes_what_is_left(checkpoint):
    core = LocalCore(checkpoint, **FLAGS, kv_cache_mib=0, gpu_memory_utilization=0.05)
    total_bytes = torch.cuda.get_device_properties(0).total_memory
    cache = core.core._runner._cache
    assert 0 < cache.keys.nbytes + cache.values.nbytes < 0.05 * total_bytes
    assert core.generate(SPEC)


LOST = """
from engine_service.device import DeviceError
from engine_service.sequence import SequenceSpec
from support.breaking_engine import POISON, poison_runner
from support.local_core import LocalCore

poison_runner()
core = LocalCore({model!r}, device="cuda", eager={eager}, max_num_seqs=8)
for number in range(4):
    core.submit(number, SequenceSpec((1, 2, number), 100))
for _ in range(10):
    core.step()
core.submit(9, SequenceSpec(POISON, 5))
try:
    core.run()
except DeviceError as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("eager", [False, True], ids=["graphs", "eager"])
def test_a_cuda_error_ends_the_core(checkpoint, eager):
    result = _python(LOST.format(model=str(checkpoint), eager=eager))
    assert result.stdout.startswith("cuda:0 is lost: CUDA error"), result.stderr
    assert len(result.stdout.splitlines()) == 1


def test_a_cuda_error_ends_its_sequences_unavailable_and_the_core_comes_back(checkpoint, monkeypatch):
    pytest.importorskip("grpc_health", reason="services need grpcio-health-checking")
    pytest.importorskip("grpc_reflection", reason="services need grpcio-reflection")
    from support.lost_device_behaviour import assert_restarts

    monkeypatch.setenv("PYTHONPATH", with_support()["PYTHONPATH"])
    assert_restarts(checkpoint, "--device=cuda")
