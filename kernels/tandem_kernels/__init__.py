"""The engine's operations on the device. Shapes and names are explained in `reference`."""

from tandem_kernels.reference import (
    add_rms_norm,
    decode_attention,
    embedding,
    prefill_attention,
    rms_norm,
    rope,
    silu_mul,
    softmax,
    store_kv,
)

__all__ = [
    "add_rms_norm",
    "decode_attention",
    "embedding",
    "prefill_attention",
    "rms_norm",
    "rope",
    "silu_mul",
    "softmax",
    "store_kv",
]
