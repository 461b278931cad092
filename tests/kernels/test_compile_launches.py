"""Kernels are compiled ahead on tensors without memory: all that steps launch, and nothing is launched."""

import logging
import os
import random

import pytest
import torch
from triton.runtime.jit import JITFunction

from engine_service.allocation import empty_model, steps_of
from engine_service.compiling import all_launches, compiling
from engine_service.config import EngineConfig
from engine_service.cuda_graph import GraphedSteps
from engine_service.image_encoder import ImageEncoder
from engine_service.model_config import num_image_slots, read_model_config
from engine_service.step_words import PrefillShape
from support.checkpoints import random_model, save
from support.no_gpu_triton import use_hopper
from support.seeing_model import seeing_model, write_seeing_model
from tandem_kernels.compile_launches import _launches_only_compile, compile_launches
from tandem_kernels.scatter_words import scatter_words

if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter is on: nothing compiles", allow_module_level=True)

META = torch.device("meta")
WIDE = {"hidden_size": 256, "head_dim": 64, "vocab_size": 512}
MODELS = {
    "llama": lambda: random_model("llama", **WIDE),
    "llama-tied": lambda: random_model("llama", **WIDE, tie_word_embeddings=True),
    "qwen2": lambda: random_model("qwen2", **WIDE),
    "qwen3": lambda: random_model("qwen3", **WIDE),
    "llava": seeing_model,
}


@pytest.fixture(scope="module", params=MODELS)
def checkpoint(request, tmp_path_factory):
    directory = tmp_path_factory.mktemp(request.param)
    write = write_seeing_model if request.param == "llava" else save
    return write(MODELS[request.param](), directory)


def _launches(checkpoint, dtype=torch.bfloat16, **flags):
    config, model_config = EngineConfig(model=str(checkpoint), **flags), read_model_config(checkpoint)
    num_images = num_image_slots(model_config, 1 << 20, dtype.itemsize)
    return config, model_config, num_images, all_launches(config, model_config, 1, dtype, num_images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param({"max_num_seqs": 70, "max_prefill_tokens": 1400}, id="70-sequences"),
        pytest.param({"max_num_seqs": 3, "max_prefill_tokens": 100, "kv_block_size": 1}, id="3-sequences"),
    ],
)
def test_steps_launch_nothing_that_was_not_compiled_ahead(monkeypatch, checkpoint, flags, dtype):
    config, model_config, num_images, launches = _launches(checkpoint, dtype, **flags)
    compiled = use_hopper(monkeypatch)
    num_kernels = compile_launches(launches)
    assert {"_linear_kernel", "_decode_attention_kernel", "_prefill_attention_kernel"} <= set(compiled)
    assert num_kernels == len(compiled)
    compiled.clear()

    model = empty_model(model_config, dtype, META, num_images)
    steps = steps_of(model, config, model_config, 1, dtype, META)(37)
    graphs = GraphedSteps(steps, config.max_num_seqs, config.max_prefill_tokens, None, is_padded=True)
    draw = random.Random(0)
    with _launches_only_compile(), torch.inference_mode():
        for num_seqs in range(1, config.max_num_seqs + 1):
            graphs.decode(num_seqs)
        for _ in range(50):
            num_chunks = draw.randint(1, config.max_num_seqs)
            num_tokens = draw.randint(num_chunks, config.max_prefill_tokens)
            shape = PrefillShape(num_tokens, num_chunks, draw.randint(0, num_chunks))
            graphs.prefill(graphs.prefill_shape(shape))
        scatter_words(steps.table.state.view(-1), steps.upload.words[1:8], steps.upload.words[9:16])
        if model_config.vision:
            ImageEncoder(model, META, None).run_all()
    assert compiled == []


def test_what_compiles_ahead_is_waited_for(monkeypatch, checkpoint, caplog):
    compiled = use_hopper(monkeypatch)
    launches = _launches(checkpoint, max_num_seqs=4)[-1]
    with caplog.at_level(logging.INFO, "tandem.core"), compiling(launches):
        pass
    assert f"compiled or found {len(compiled)} kernels" in caplog.text
    assert compiled


def test_a_kernel_that_does_not_compile_is_a_warning(monkeypatch, checkpoint, caplog):
    use_hopper(monkeypatch, broken="_linear_kernel")
    launches = _launches(checkpoint, max_num_seqs=4)[-1]
    with compiling(launches):
        read = "weights"
    assert read == "weights"
    assert "kernels cannot be compiled ahead" in caplog.text
    assert "_linear_kernel cannot be compiled" in caplog.text


def test_launches_of_tensors_with_memory_are_as_ever(monkeypatch):
    launched = []

    def run(self, *args, grid, warmup, **options):
        launched.append((args[0].device.type, warmup))

    monkeypatch.setattr(JITFunction, "run", run)
    words = torch.zeros(4, dtype=torch.int32)
    with _launches_only_compile():
        scatter_words(words, words, words)
        scatter_words(*[words.to(META)] * 3)
    assert launched == [("cpu", False), ("meta", True)]
    assert JITFunction.run is run
