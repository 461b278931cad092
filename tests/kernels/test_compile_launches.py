"""Kernels are compiled ahead: all that steps launch, seen on tensors without memory, and nothing runs."""

import logging
import os
import random
import subprocess
import sys
import threading
from functools import partial

import pytest
import torch
from triton.runtime.jit import JITFunction

from engine_service.allocation import empty_model, steps_of
from engine_service.compiling import NUM_LAYERS, compiling, launch_all
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


class Parts:
    """What a start makes, on the meta device."""

    def __init__(self, checkpoint, dtype=torch.bfloat16, **flags):
        self.config, model_config = (
            EngineConfig(model=str(checkpoint), **flags),
            read_model_config(checkpoint),
        )
        num_images = num_image_slots(model_config, 1 << 20, dtype.itemsize)
        model = empty_model(model_config, dtype, META, num_images)
        self.images = ImageEncoder(model, META, None) if model_config.vision else None
        steps_with = steps_of(model, self.config, model_config, 1, dtype, META)
        self.launch = partial(launch_all, self.config, steps_with(0, NUM_LAYERS), self.images)
        self.steps = steps_with(37, model_config.num_layers)
        sizes = (self.config.max_num_seqs, self.config.max_prefill_tokens)
        self.graphs = GraphedSteps(self.steps, *sizes, None, is_padded=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param({"max_num_seqs": 70, "max_prefill_tokens": 1400}, id="70-sequences"),
        pytest.param({"max_num_seqs": 3, "max_prefill_tokens": 100, "kv_block_size": 1}, id="3-sequences"),
    ],
)
def test_steps_launch_nothing_that_was_not_compiled_ahead(monkeypatch, checkpoint, flags, dtype):
    parts = Parts(checkpoint, dtype, **flags)
    compiled = use_hopper(monkeypatch)
    num_kernels = compile_launches(parts.launch)
    assert {"_linear_kernel", "_decode_attention_kernel", "_prefill_attention_kernel"} <= set(compiled)
    assert num_kernels == len(compiled)
    compiled.clear()

    draw, most, steps = random.Random(0), flags["max_num_seqs"], parts.steps
    with _launches_only_compile(), torch.inference_mode():
        for num_seqs in range(1, most + 1):
            parts.graphs.decode(num_seqs)
        for _ in range(50):
            num_chunks = draw.randint(1, most)
            num_tokens = draw.randint(num_chunks, flags["max_prefill_tokens"])
            num_drawing, is_whole = draw.randint(0, num_chunks), draw.random() < 0.5
            is_fresh = draw.random() < 0.5
            shape = PrefillShape(num_tokens, num_chunks, num_drawing, is_whole, is_fresh)
            parts.graphs.prefill(parts.graphs.prefill_shape(shape))
        scatter_words(steps.table.state.view(-1), steps.upload.words[1:8], steps.upload.words[9:16])
        if parts.images:
            parts.images.run_all()
    assert compiled == []


def test_what_compiles_ahead_is_waited_for(monkeypatch, checkpoint, caplog):
    compiled = use_hopper(monkeypatch)
    with caplog.at_level(logging.INFO, "tandem.core"), compiling(Parts(checkpoint, max_num_seqs=4).launch):
        pass
    assert f"compiled or found {len(compiled)} kernels" in caplog.text
    assert compiled


def test_a_kernel_that_does_not_compile_is_a_warning(monkeypatch, checkpoint, caplog):
    use_hopper(monkeypatch, broken="_linear_kernel")
    with compiling(Parts(checkpoint, max_num_seqs=4).launch):
        read = "weights"
    assert read == "weights"
    assert "kernels cannot be compiled ahead" in caplog.text
    assert "_linear_kernel cannot be compiled" in caplog.text


def test_other_threads_launch_as_ever(monkeypatch):
    launched = []

    def run(self, *args, grid, warmup, **options):
        launched.append(warmup)

    monkeypatch.setattr(JITFunction, "run", run)
    words = torch.zeros(4, dtype=torch.int32)
    with _launches_only_compile():
        scatter_words(words, words, words)
        other = threading.Thread(target=scatter_words, args=(words, words, words))
        other.start()
        other.join()
    assert launched == [True, False]
    assert JITFunction.run is run


@pytest.mark.parametrize("checkpoint", ["llama", "llava"], indirect=True)
def test_a_model_without_memory_is_made_without_torch_compiler(checkpoint):
    code = (
        "import sys, torch; from pathlib import Path; from engine_service.allocation import empty_model; "
        "from engine_service.model_config import read_model_config; "
        f"config = read_model_config(Path({str(checkpoint)!r})); "
        "empty_model(config, torch.bfloat16, torch.device('meta'), 1); "
        "print({'sympy', 'torch._dynamo'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
