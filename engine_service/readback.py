"""Results on their way from the device to the host."""

import torch


class Readback:
    """Copies of a step's results, which may be read once `wait` returns."""

    def __init__(self, device: torch.device) -> None:
        """Nothing is on its way."""
        self._is_gpu = device.type == "cuda"
        self._done = torch.cuda.Event() if self._is_gpu else None  # type: ignore[no-untyped-call]

    def fetch(self, result: torch.Tensor) -> torch.Tensor:
        """The host's copy of a tensor, of any shape."""
        if not self._is_gpu:
            return result
        # From torch's pool of pinned memory, which waits for the copy before it gives memory out again.
        copy = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
        return copy.copy_(result, non_blocking=True)

    def end(self) -> None:
        """Marks the end of what is fetched."""
        if self._done is not None:
            self._done.record()

    def wait(self) -> None:
        """Returns when all that was fetched is there."""
        if self._done is not None:
            self._done.synchronize()
