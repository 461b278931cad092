"""The engine's operations on the device. Shapes and names are explained in `reference`.

Each operation has its Triton kernel in the file of the same name; `dispatch` says which code runs. The
names here are operations, not those files: import a launcher as `from tandem_kernels.softmax import softmax`.
"""

from tandem_kernels import reference, reference_sample, reference_vision
from tandem_kernels.dispatch import by_device

add_layer_norm = by_device(reference_vision.add_layer_norm, "layer_norm")
add_rms_norm = by_device(reference.add_rms_norm, "rms_norm")
decode_attention = by_device(reference.decode_attention, "decode_attention")
decode_inputs = by_device(reference.decode_inputs, "decode_inputs")
embedding = by_device(reference.embedding, "embedding")
layer_norm = by_device(reference_vision.layer_norm, "layer_norm")
linear_residual = by_device(reference.linear_residual, "linear_residual")
norm_gate_up_silu = by_device(reference.norm_gate_up_silu, "norm_gate_up_silu")
norm_head = by_device(reference.norm_head, "norm_head")
norm_qkv_rope_store = by_device(reference.norm_qkv_rope_store, "norm_qkv_rope_store")
plan_decode = by_device(reference.plan_decode, "plan_decode")
prefill_attention = by_device(reference.prefill_attention, "prefill_attention")
quick_gelu = by_device(reference_vision.quick_gelu, "quick_gelu")
rms_norm = by_device(reference.rms_norm, "rms_norm")
rope_store = by_device(reference.rope_store, "rope_store")
sample = by_device(reference_sample.sample, "sample")
scatter_words = by_device(reference.scatter_words, "scatter_words")
silu_mul = by_device(reference.silu_mul, "silu_mul")
softmax = by_device(reference.softmax, "softmax")

__all__ = [
    "add_layer_norm",
    "add_rms_norm",
    "decode_attention",
    "decode_inputs",
    "embedding",
    "layer_norm",
    "linear_residual",
    "norm_gate_up_silu",
    "norm_head",
    "norm_qkv_rope_store",
    "plan_decode",
    "prefill_attention",
    "quick_gelu",
    "rms_norm",
    "rope_store",
    "sample",
    "scatter_words",
    "silu_mul",
    "softmax",
]
