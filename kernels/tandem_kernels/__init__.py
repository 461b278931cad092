"""The engine's operations on the device. Shapes and names are explained in `reference`.

Each operation has its Triton kernel in the file of the same name; `dispatch` says which code runs. The
names here are operations, not those files: import a launcher as `from tandem_kernels.softmax import softmax`.
"""

from tandem_kernels import reference
from tandem_kernels.dispatch import by_device

add_rms_norm = by_device(reference.add_rms_norm, "rms_norm")
decode_attention = by_device(reference.decode_attention, "decode_attention")
embedding = by_device(reference.embedding, "embedding")
prefill_attention = by_device(reference.prefill_attention, "prefill_attention")
rms_norm = by_device(reference.rms_norm, "rms_norm")
rope_store = by_device(reference.rope_store, "rope_store")
silu_mul = by_device(reference.silu_mul, "silu_mul")
softmax = by_device(reference.softmax, "softmax")

__all__ = [
    "add_rms_norm",
    "decode_attention",
    "embedding",
    "prefill_attention",
    "rms_norm",
    "rope_store",
    "silu_mul",
    "softmax",
]
