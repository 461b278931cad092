"""Which device serves, and the one line with the numbers where none does."""

import pytest
import torch

from engine_service.config import EngineConfig
from engine_service.device import DeviceError, check_device, choose_device
from engine_service.device_memory import GIB, MemoryUse

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 80 GiB, as far as questions go; `free_bytes` and `capability` can be changed."""

    class Gpu:
        free_bytes, total_bytes, capability = 79 * GIB, 80 * GIB, (9, 0)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA Old")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: Gpu.capability)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (Gpu.free_bytes, Gpu.total_bytes))
    return Gpu


@pytest.fixture
def _no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("_no_gpu")
@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_a_gpu_the_cpu_serves(name):
    assert choose_device(name) == CPU


@pytest.mark.usefixtures("_no_gpu")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"^device=cuda: torch .* finds no NVIDIA GPU; .*--device cpu$"):
        choose_device("cuda")


@pytest.mark.parametrize(("name", "device"), [("auto", GPU), ("cuda", GPU), ("cpu", CPU)])
def test_a_gpu_serves_where_there_is_one(gpu, name, device):
    assert choose_device(name) == device


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (12, 1)], ids=str)
def test_gpus_from_ampere_on_serve(gpu, capability):
    gpu.capability = capability
    assert choose_device("cuda") == GPU


@pytest.mark.parametrize("name", ["auto", "cuda"])
@pytest.mark.parametrize("capability", [(7, 5), (6, 1)], ids=str)
def test_an_older_gpu_is_refused_with_both_capabilities(gpu, name, capability):
    gpu.capability = capability
    with pytest.raises(ValueError) as error:
        choose_device(name)
    assert f"NVIDIA Old has compute capability {capability[0]}.{capability[1]}" in str(error.value)
    assert "needed is 8.0" in str(error.value)


def test_a_cpu_always_works():
    check_device(CPU)


def test_a_broken_gpu_is_an_error_of_one_line(monkeypatch):
    def broken(_device):
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    with pytest.raises(DeviceError) as error:
        check_device(GPU)
    assert str(error.value) == "cuda:0 is lost: CUDA error: device-side assert triggered"


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_a_share_of_the_memory_out_of_bounds_is_refused(share):
    with pytest.raises(ValueError, match=rf"gpu_memory_utilization={share}: must be in \(0, 1\]"):
        EngineConfig(gpu_memory_utilization=share)


@pytest.mark.parametrize("share", [1e-9, 0.9, 1.0])
def test_a_share_of_the_memory_within_bounds_is_taken(share):
    assert EngineConfig(gpu_memory_utilization=share).gpu_memory_utilization == share


def test_weights_that_just_fit_are_taken_and_a_byte_more_is_refused(gpu):
    use = MemoryUse(GPU, 0.5)
    use.check_weights(40 * GIB)
    with pytest.raises(ValueError) as error:
        use.check_weights(40 * GIB + 1)
    assert "the weights take 40.00 GiB, and cuda:0 has 79.00 GiB free of 80.00 GiB" in str(error.value)
    assert "--gpu-memory-utilization 0.5 leaves 40.00 GiB" in str(error.value)


def test_what_others_hold_is_not_counted_but_cannot_be_taken(gpu):
    gpu.free_bytes = 30 * GIB
    with pytest.raises(ValueError, match=r"cuda:0 has 30\.00 GiB free .* leaves 30\.00 GiB"):
        MemoryUse(GPU, 0.9).check_weights(31 * GIB)


def test_the_kv_cache_gets_what_is_left_after_the_parts_and_room_for_graphs(gpu):
    use = MemoryUse(GPU, 0.5)
    gpu.free_bytes -= 16 * GIB
    use.note("weights")
    assert use.kv_cache_bytes() == 24 * GIB - GIB // 2


def test_what_others_give_back_does_not_raise_the_share(gpu, monkeypatch):
    gpu.free_bytes = 20 * GIB
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 3 * GIB)
    use = MemoryUse(GPU, 0.5)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 19 * GIB)
    gpu.free_bytes = 64 * GIB
    assert use.kv_cache_bytes() == 24 * GIB - GIB // 2


def test_what_the_process_had_before_and_gives_back_does_not_raise_the_share(gpu, monkeypatch):
    gpu.free_bytes = 20 * GIB
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 60 * GIB)
    use = MemoryUse(GPU, 0.5)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 0)
    gpu.free_bytes = 80 * GIB
    assert use.kv_cache_bytes() == 40 * GIB - GIB // 2


def test_no_room_for_a_kv_cache_is_refused_with_every_part(gpu):
    use = MemoryUse(GPU, 0.25)
    for part, size in (("weights", 16), ("workspace", 4)):
        gpu.free_bytes -= size * GIB
        use.note(part)
    with pytest.raises(ValueError) as error:
        use.kv_cache_bytes()
    words = "no memory for the KV cache: weights 16.00 GiB, workspace 4.00 GiB, graphs 0.50 GiB, and cuda:0"
    assert str(error.value).startswith(words)
    assert "leaves 0.00 GiB; raise --gpu-memory-utilization, or lower" in str(error.value)


def test_a_cpu_is_not_measured():
    use = MemoryUse(CPU, 0.9)
    assert not use.is_measured
    use.note("weights")
    use.report()
