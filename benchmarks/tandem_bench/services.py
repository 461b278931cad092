"""Both services as processes, for workloads that go the whole way."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from tandem.cli.services import Services
from tandem_bench.bench import Bench, say
from tandem_service.flags import to_arguments

START_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Addresses:
    """Where the services listen, on unix sockets."""

    tokenizer: str
    engine: str


@contextlib.contextmanager
def running_services(bench: Bench, *, model: str = "", **flags: Any) -> Iterator[Addresses]:
    """Both services, healthy on entry and ended on exit. The device must have room for the engine.

    Args:
        bench: What is run on what.
        model: A directory or `demo`; empty takes the checkpoint of the shape.
        flags: Of the engine.
    """
    settings = bench.settings
    directory = model or str(bench.checkpoint)
    config = settings.engine_config(bench.checkpoint, **flags)
    # The services get the model from their own frame.
    engine_flags = to_arguments(replace(config, model=type(config)().model))
    bench.close_engine()
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as sockets:
        addresses = Addresses(f"unix:{sockets}/tokenizer.sock", f"unix:{sockets}/engine.sock")
        say(f"starting both services: {' '.join(engine_flags)}")
        with Services(
            directory,
            addresses.tokenizer,
            addresses.engine,
            engine_flags=engine_flags,
            num_workers=settings.num_workers,
        ) as services:
            services.wait_until_serving(START_TIMEOUT_S)
            yield addresses
