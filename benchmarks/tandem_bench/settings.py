"""What a run of the benchmarks is told on its command line."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from engine_service.config import EngineConfig
from tandem_bench.shape import Shape
from tandem_bench.shapes import SHAPES
from tandem_service.flags import parse_flags


@dataclass(frozen=True)
class Settings:
    """One run.

    Attributes:
        device: "cuda" or "cpu".
        dtype: Of weights and KV cache, for example "bfloat16".
        repetitions: Counted runs of each workload.
        shrink: Divides numbers of requests and lengths, to try things out; 1 measures what is asked.
        checkpoint_dir: Where checkpoints are written and found again.
        engine_flags: Fields of EngineConfig that win over the workloads' own.
        peer_timeout_s: The longest that one process of a peer may take.
        streams: Numbers of streams at once through the services.
        rate: Poisson arrivals through the services, requests per second; 0 takes half of the capacity.
        workers: Numbers of tokenizer processes, each measured.
        num_clients: Processes that make the load on the services.
        num_requests: Of the soak.
        busy_poll_ms: Of both services.
    """

    shape: Shape = SHAPES["tiny"]
    device: str = "cpu"
    dtype: str = "float32"
    repetitions: int = 3
    shrink: int = 1
    checkpoint_dir: Path = Path("/tmp/tandem-checkpoints")
    engine_flags: dict[str, Any] = field(default_factory=dict)
    peer_timeout_s: float = 240.0
    streams: tuple[int, ...] = (1, 16, 64, 256)
    rate: float = 0.0
    workers: tuple[int, ...] = (1,)
    num_clients: int = 1
    num_requests: int = 20_000
    busy_poll_ms: float = 0.0

    @property
    def torch_dtype(self) -> torch.dtype:
        """`dtype` as torch has it."""
        dtype = getattr(torch, self.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype

    def engine_config(self, model: Path, **flags: Any) -> EngineConfig:
        """The engine's configuration: that of all workloads, changed by one, changed by the user.

        Raises:
            ValueError: There is no such flag, or a value is out of its bounds.
        """
        base = {"max_num_seqs": 256, "max_prefill_tokens": 8192}
        where = {"model": str(model), "device": self.device, "dtype": self.dtype}
        return EngineConfig(**(where | base | flags | self.engine_flags))

    def to_json(self) -> dict[str, Any]:
        """For results."""
        return {
            "shape": self.shape.name,
            "device": self.device,
            "dtype": self.dtype,
            "shrink": self.shrink,
            "engine_flags": self.engine_flags,
            "busy_poll_ms": self.busy_poll_ms,
        }


def parse_engine_flags(arguments: Sequence[str]) -> dict[str, Any]:
    """Fields of EngineConfig by name, from arguments such as `--max-num-seqs=64`.

    Raises:
        SystemExit: There is no such flag, or a value is wrong.
    """
    config = parse_flags(EngineConfig, "--engine-flag", "Flags of the engine.", arguments)
    names = [argument.removeprefix("--").partition("=")[0].replace("-", "_") for argument in arguments]
    names = [name if hasattr(config, name) else name.removeprefix("no_") for name in names]
    return {name: getattr(config, name) for name in names}


def best_device() -> str:
    """An NVIDIA GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"
