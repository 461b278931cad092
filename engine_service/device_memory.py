"""Where a GPU's memory goes, measured while the engine starts."""

import logging

import torch

log = logging.getLogger("tandem.core")

GIB = 1 << 30
# For graphs, which are captured after the KV cache has its place: kernels' parameters, and intermediate
# results that they share.
GRAPH_BYTES = GIB // 2


class MemoryUse:
    """What the parts of the engine take of a GPU; on a CPU all of this does nothing."""

    def __init__(self, device: torch.device, utilization: float) -> None:
        """Nothing is noted yet; `utilization` is the share of the memory that the engine may take."""
        self._device = device
        self._parts: dict[str, int] = {}
        self._utilization = utilization
        self._start_bytes = self._noted_bytes = self._used_bytes()
        self._start_reserved_bytes = self._reserved_bytes()

    @property
    def is_measured(self) -> bool:
        """Whether the device is a GPU."""
        return self._device.type == "cuda"

    def note(self, part: str) -> None:
        """Counts what was taken since the last note to `part`."""
        used_bytes = self._used_bytes()
        self._parts[part] = used_bytes - self._noted_bytes
        self._noted_bytes = used_bytes

    def give_back(self) -> None:
        """Returns what torch keeps for later; it stays counted to the part that took it."""
        if self.is_measured:
            torch.cuda.empty_cache()
        self._noted_bytes = self._used_bytes()

    def check_weights(self, num_bytes: int) -> None:
        """Sees that the weights find room.

        Raises:
            ValueError: They do not; the message has the numbers.
        """
        free_bytes = self._left_bytes()
        if num_bytes > free_bytes:
            raise ValueError(
                f"the weights take {_gib(num_bytes)}, and {self._describe(free_bytes)}; "
                "take a smaller model or dtype, or free the GPU"
            )

    def kv_cache_bytes(self) -> int:
        """What is left for the KV cache.

        Raises:
            ValueError: Nothing is; the message has the numbers.
        """
        left_bytes = self._left_bytes() - GRAPH_BYTES
        if left_bytes <= 0:
            parts = ", ".join(f"{part} {_gib(size)}" for part, size in self._parts.items())
            raise ValueError(
                f"no memory for the KV cache: {parts}, graphs {_gib(GRAPH_BYTES)}, and "
                f"{self._describe(self._left_bytes())}; raise --gpu-memory-utilization, or lower "
                "--max-prefill-tokens or --max-num-seqs"
            )
        return left_bytes

    def report(self) -> None:
        """Logs a line with every part."""
        if self._device.type == "cuda":
            total_bytes = torch.cuda.mem_get_info(self._device)[1]
            parts = ", ".join(f"{part} {_gib(size)}" for part, size in self._parts.items())
            log.info("memory of %s: %s; %s in all", self._device, parts, _gib(total_bytes))

    def _used_bytes(self) -> int:
        if self._device.type != "cuda":
            return 0
        free_bytes, total_bytes = torch.cuda.mem_get_info(self._device)
        return total_bytes - free_bytes

    def _reserved_bytes(self) -> int:
        """What this process has of the device through torch."""
        return torch.cuda.memory_reserved(self._device) if self._device.type == "cuda" else 0

    def _left_bytes(self) -> int:
        """Bytes that the engine may still take."""
        if self._device.type != "cuda":
            raise AssertionError("a CPU's memory is not measured")
        free_bytes, total_bytes = torch.cuda.mem_get_info(self._device)
        # Others on the device may have given memory back since the start, or this process what it had then.
        taken_bytes = total_bytes - free_bytes - self._start_bytes
        own_bytes = max(0, taken_bytes, self._reserved_bytes() - self._start_reserved_bytes)
        return min(int(self._utilization * total_bytes) - own_bytes, free_bytes)

    def _describe(self, left_bytes: int) -> str:
        free_bytes, total_bytes = torch.cuda.mem_get_info(self._device)
        return (
            f"{self._device} has {_gib(free_bytes)} free of {_gib(total_bytes)}, of which "
            f"--gpu-memory-utilization {self._utilization:g} leaves {_gib(left_bytes)}"
        )


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.2f} GiB"
