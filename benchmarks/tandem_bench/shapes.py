"""The public shapes that random checkpoints are made in."""

from typing import Any

from tandem_bench.llava_shape import LlavaShape, TowerShape
from tandem_bench.shape import Shape

_LLAMA3 = {
    "family": "llama",
    "vocab_size": 128256,
    "num_kv_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "context_length": 131072,
    "eos_token_id": 128001,
}
_LLAMA31_8B = {
    **_LLAMA3,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_heads": 32,
    "head_dim": 128,
    "rope_factor": 8.0,
    "is_tied": False,
}
_QWEN = {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "rope_factor": None}
_QWEN25 = {**_QWEN, "family": "qwen2", "context_length": 131072, "eos_token_id": 151643}


def _shape(name: str, common: dict[str, Any], **own: Any) -> Shape:
    return Shape(name=name, **(common | own))


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        _shape(
            "Llama-3.2-1B",
            _LLAMA3,
            hidden_size=2048,
            intermediate_size=8192,
            num_layers=16,
            num_heads=32,
            head_dim=64,
            rope_factor=32.0,
            is_tied=True,
        ),
        _shape(
            "Llama-3.2-3B",
            _LLAMA3,
            hidden_size=3072,
            intermediate_size=8192,
            num_layers=28,
            num_heads=24,
            head_dim=128,
            rope_factor=32.0,
            is_tied=True,
            num_seed_prompts=12,
        ),
        _shape("Llama-3.1-8B", _LLAMA31_8B, num_layers=32),
        # A slice, for comparisons with float32 that would not fit otherwise.
        _shape("Llama-3.1-8B-2layers", _LLAMA31_8B, num_layers=2),
        _shape(
            "Qwen2.5-0.5B",
            _QWEN25,
            vocab_size=151936,
            hidden_size=896,
            intermediate_size=4864,
            num_layers=24,
            num_heads=14,
            num_kv_heads=2,
            head_dim=64,
            context_length=32768,
            is_tied=True,
        ),
        _shape(
            "Qwen2.5-1.5B",
            _QWEN25,
            vocab_size=151936,
            hidden_size=1536,
            intermediate_size=8960,
            num_layers=28,
            num_heads=12,
            num_kv_heads=2,
            head_dim=128,
            is_tied=True,
        ),
        _shape(
            "Qwen2.5-7B",
            _QWEN25,
            vocab_size=152064,
            hidden_size=3584,
            intermediate_size=18944,
            num_layers=28,
            num_heads=28,
            num_kv_heads=4,
            head_dim=128,
            is_tied=False,
        ),
        _shape(
            "Qwen3-0.6B",
            _QWEN,
            family="qwen3",
            vocab_size=151936,
            hidden_size=1024,
            intermediate_size=3072,
            num_layers=28,
            num_heads=16,
            num_kv_heads=8,
            head_dim=128,
            context_length=40960,
            is_tied=True,
            eos_token_id=151645,
        ),
        LlavaShape(
            name="LLaVA-1.5-7B",
            family="llama",
            vocab_size=32064,
            hidden_size=4096,
            intermediate_size=11008,
            num_layers=32,
            num_heads=32,
            num_kv_heads=32,
            head_dim=128,
            rms_norm_eps=1e-5,
            rope_theta=10000.0,
            rope_factor=None,
            context_length=4096,
            is_tied=False,
            eos_token_id=2,
            image_token_id=32000,
            tower=TowerShape(
                hidden_size=1024,
                intermediate_size=4096,
                num_layers=24,
                num_heads=16,
                image_size=336,
                patch_size=14,
                projection_dim=768,
            ),
        ),
        # Nobody's: small enough to try the workloads out on a CPU.
        _shape(
            "tiny",
            _LLAMA3,
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=16,
            rope_factor=None,
            context_length=8192,
            is_tied=True,
            eos_token_id=256,
        ),
        LlavaShape(
            name="tiny-llava",
            family="llama",
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_layers=2,
            num_heads=4,
            num_kv_heads=2,
            head_dim=16,
            rms_norm_eps=1e-5,
            rope_theta=10000.0,
            rope_factor=None,
            context_length=1024,
            is_tied=False,
            eos_token_id=2,
            image_token_id=400,
            tower=TowerShape(
                hidden_size=32,
                intermediate_size=64,
                num_layers=3,
                num_heads=2,
                image_size=56,
                patch_size=14,
                projection_dim=16,
            ),
        ),
    )
}
