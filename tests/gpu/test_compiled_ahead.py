"""The kernels are there before the first graph is captured; without that the start only takes longer."""

import pytest
import triton

from engine_service.sampling_params import SamplingParams
from engine_service.sequence import SequenceSpec
from support.checkpoints import random_model, save
from support.local_core import LocalCore
from support.mixed_work import run_mixed_work
from support.no_gpu_triton import forget_compiled
from support.seeing_model import seeing_model, write_seeing_model
from tandem_kernels import compile_launches

FLAGS = {"device": "cuda", "dtype": "bfloat16", "max_num_seqs": 70}
SPEC = SequenceSpec((3, 1, 4, 1, 5), 20, SamplingParams(temperature=0.0))


@pytest.fixture
def compiled(monkeypatch):
    """The kernels that were compiled or found on the disk, and whether ahead of their launch."""
    found = []

    def note(*, repr, is_manual_warmup, **_):
        found.append((repr, is_manual_warmup))

    monkeypatch.setattr(triton.knobs.runtime, "jit_post_compile_hook", note)
    forget_compiled(monkeypatch)
    return found


@pytest.mark.parametrize("eager", [False, True], ids=["graphs", "eager"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_neither_the_start_nor_a_step_compiles_anything_else(compiled, tmp_path, family, dtype, eager):
    save(random_model(family, hidden_size=256, head_dim=64), tmp_path)
    core = LocalCore(tmp_path, **(FLAGS | {"dtype": dtype}), eager=eager)
    run_mixed_work(core, 100)
    assert compiled
    assert [name for name, is_ahead in compiled if not is_ahead] == []


def test_the_same_for_a_model_that_sees(compiled, tmp_path):
    LocalCore(write_seeing_model(seeing_model(), tmp_path), **FLAGS)
    assert compiled
    assert [name for name, is_ahead in compiled if not is_ahead] == []


def test_the_engine_starts_without(compiled, monkeypatch, tmp_path, caplog):
    save(random_model("llama"), tmp_path)
    expected = LocalCore(tmp_path, **FLAGS).generate(SPEC)

    def break_off(_launches):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(compile_launches, "compile_launches", break_off)
    forget_compiled(monkeypatch)
    assert LocalCore(tmp_path, **FLAGS).generate(SPEC) == expected
    assert "kernels cannot be compiled ahead" in caplog.text
    assert not all(is_ahead for _, is_ahead in compiled)
