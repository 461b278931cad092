"""`python -m tokenizer_service`: flags, logging, and the worker or workers."""

import asyncio
import gc
import sys
from collections.abc import Sequence
from functools import partial

from tandem_service import busy_poll
from tandem_service.errors import MismatchError
from tandem_service.flags import parse_flags
from tandem_service.logs import set_up_logging
from tandem_service.termination import wait_for_termination
from tokenizer_service.config import TokenizerServiceConfig
from tokenizer_service.no_torch import forbid_torch
from tokenizer_service.worker_metrics import worker_metrics
from tokenizer_service.workers import EXIT_UNUSABLE, Workers

_ABOUT = "Serves tandem.v1.Inference: text and chats in, text out, in front of an engine service."


def main(arguments: Sequence[str]) -> int:
    """Runs the service; gives the exit status."""
    config = parse_flags(TokenizerServiceConfig, "python -m tokenizer_service", _ABOUT, arguments)
    set_up_logging(config.log_level, config.log_format)
    try:
        if config.workers > 1:
            with worker_metrics(config.metrics_listen, config.tls) as metrics:
                return asyncio.run(Workers(config, metrics).run())
        forbid_torch()
        busy_poll.run(_serve(config), config.busy_poll_ms / 1e3)
    except (ValueError, MismatchError) as error:
        print(f"tokenizer service: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    return 0


async def _serve(config: TokenizerServiceConfig) -> None:
    # transformers is imported here and must not find torch.
    from tokenizer_service.service import serve

    def announce(address: str) -> None:
        # What was loaded lives as long as the process: with it a collection takes 70 ms, in which no event
        # is written.
        gc.collect()
        gc.freeze()
        # One write, since other workers write to the same output.
        sys.stdout.write(f"tokenizer service listens on {address}, model {config.served_name}\n")
        sys.stdout.flush()

    await serve(config, partial(wait_for_termination, config.ends_with_input), announce)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
