"""The memory behind the blocks of the KV cache: one allocation at the start."""

import torch

from engine_service.model_config import ModelConfig


class KVCache:
    """Keys and values of all layers.

    Attributes:
        keys: [num_layers, num_blocks + 1, block_size, num_kv_heads, head_dim]; the last block takes
            what padding writes.
        values: The same shape.
    """

    def __init__(
        self, config: ModelConfig, num_blocks: int, block_size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        """Allocates; the content is undefined.

        Raises:
            ValueError: There is not enough memory; the message says how much was asked for.
        """
        shape = (config.num_layers, num_blocks + 1, block_size, config.num_kv_heads, config.head_dim)
        try:
            self.keys = torch.empty(shape, dtype=dtype, device=device)
            self.values = torch.empty(shape, dtype=dtype, device=device)
        except RuntimeError as error:
            if device.type == "cuda" and not isinstance(error, torch.OutOfMemoryError):
                raise
            mib = (num_blocks * bytes_per_block(config, block_size, dtype)) >> 20
            raise ValueError(f"no memory for a KV cache of {mib} MiB; lower --kv-cache-mib") from None

    @property
    def num_blocks(self) -> int:
        """Blocks for sequences; the block for padding has this number."""
        return self.keys.shape[1] - 1

    @property
    def block_size(self) -> int:
        """Slots of a block."""
        return self.keys.shape[2]


def bytes_per_block(config: ModelConfig, block_size: int, dtype: torch.dtype) -> int:
    """Bytes of one block: keys and values of all layers."""
    return 2 * config.num_layers * block_size * config.num_kv_heads * config.head_dim * dtype.itemsize
