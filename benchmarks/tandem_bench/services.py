"""Both services as processes, for workloads that go the whole way."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tandem.cli.services import Services, free_address
from tandem_bench.bench import Bench, say
from tandem_service.flags import to_arguments

START_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Addresses:
    """Where the services listen."""

    tokenizer: str
    engine: str


@contextlib.contextmanager
def running_services(
    bench: Bench, *, model: str = "", num_workers: int = 1, **flags: Any
) -> Iterator[Addresses]:
    """Both services, healthy on entry and ended on exit. The device must have room for the engine.

    Args:
        bench: What is run on what.
        model: A directory or `demo`; empty takes the checkpoint of the shape.
        num_workers: Processes of the tokenizer service.
        flags: Of the engine.
    """
    directory = model or str(bench.checkpoint)
    busy_poll_ms = bench.settings.busy_poll_ms
    config = bench.settings.engine_config(bench.checkpoint, busy_poll_ms=busy_poll_ms, **flags)
    # The services get the model from their own frame.
    engine_flags = to_arguments(replace(config, model=type(config)().model))
    bench.close_engine()
    with started_services(
        directory,
        num_workers=num_workers,
        engine_flags=engine_flags,
        tokenizer_flags=[f"--busy-poll-ms={busy_poll_ms}"],
    ) as addresses:
        yield addresses


@contextlib.contextmanager
def started_services(
    model: str,
    *,
    num_workers: int = 1,
    is_fake: bool = False,
    engine_flags: Sequence[str] = (),
    tokenizer_flags: Sequence[str] = (),
) -> Iterator[Addresses]:
    """Both services, healthy on entry and ended on exit; arguments as for `Services`."""
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as sockets:
        # Workers share a port; a single one listens on a socket as the engine does.
        listen = f"unix:{sockets}/tokenizer.sock" if num_workers == 1 else free_address()
        addresses = Addresses(listen, f"unix:{sockets}/engine.sock")
        say(f"starting both services, {num_workers} tokenizer workers: {' '.join(engine_flags)}")
        with Services(
            model,
            addresses.tokenizer,
            addresses.engine,
            num_workers=num_workers,
            is_fake=is_fake,
            engine_flags=engine_flags,
            tokenizer_flags=tokenizer_flags,
        ) as services:
            services.wait_until_serving(START_TIMEOUT_S)
            yield addresses
