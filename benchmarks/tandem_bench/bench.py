"""What the workloads of one run share: checkpoint, ceilings, and one engine at a time."""

import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from tandem_bench.ceilings import Ceilings, measure_ceilings
from tandem_bench.checkpoint import checkpoint
from tandem_bench.engine_driver import EngineDriver
from tandem_bench.floor import Floor
from tandem_bench.load import Lengths
from tandem_bench.settings import Settings


class Bench:
    """Makes what a workload needs when it first needs it."""

    def __init__(self, settings: Settings) -> None:
        """Does nothing yet."""
        self.settings = settings
        self._engine: EngineDriver | None = None

    @cached_property
    def checkpoint(self) -> Path:
        """The directory of the shape's random weights."""
        return checkpoint(self.settings.shape, self.settings.checkpoint_dir)

    @cached_property
    def ceilings(self) -> Ceilings:
        """Of this machine, measured once a run."""
        say("measuring the device's ceilings")
        return measure_ceilings(self.settings.device, self.settings.torch_dtype)

    @property
    def floor(self) -> Floor:
        """The least times of the shape on this machine."""
        return Floor(self.settings.shape, self.ceilings, self.settings.torch_dtype.itemsize)

    def engine(self, **flags: Any) -> EngineDriver:
        """An engine with these flags; the one at hand if it has them already."""
        config = self.settings.engine_config(self.checkpoint, **flags)
        if self._engine is None or self._engine.config != config:
            _ = self.ceilings  # measured while no engine holds the memory
            self.close_engine()
            say(f"loading {self.settings.shape.name}: {self._shown(flags)}")
            self._engine = EngineDriver(config)
            say(f"loaded in {self._engine.start_s:.1f} s")
        return self._engine

    def close_engine(self) -> None:
        """Leaves the device to others."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def lengths(self, lengths: Lengths) -> Lengths:
        """What is run of a workload's lengths."""
        return lengths if self.settings.shrink == 1 else lengths.shrunk(self.settings.shrink)

    def repeated(self, name: str, run: Callable[[str], float], shown_as: str) -> list[float]:
        """The counted runs after a warm-up.

        Args:
            name: What is run.
            run: Measures once, with prompts made from the given seed.
            shown_as: The unit of what it measures.
        """
        values = []
        for number in range(self.settings.repetitions + 1):
            value = run(f"{name} {number}")
            say(f"{name}: {value:,.4g} {shown_as}{'' if number else ' (warm-up)'}")
            if number:
                values.append(value)
        return values

    def _shown(self, flags: dict[str, Any]) -> str:
        chosen = flags | self.settings.engine_flags
        return ", ".join(f"{name}={value}" for name, value in chosen.items()) or "flags of all workloads"


def say(text: str) -> None:
    """Tells how far the run is."""
    print(text, file=sys.stderr, flush=True)
