"""`python -m tokenizer_service`: flags, logging, and the worker or workers."""

import asyncio
import sys
from collections.abc import Sequence

from tandem_service.errors import MismatchError
from tandem_service.flags import parse_flags
from tandem_service.grpc_server import wait_for_termination
from tandem_service.logs import set_up_logging
from tokenizer_service.config import TokenizerServiceConfig
from tokenizer_service.no_torch import forbid_torch
from tokenizer_service.workers import EXIT_UNUSABLE, Workers

_ABOUT = "Serves tandem.v1.Inference: text and chats in, text out, in front of an engine service."


def main(arguments: Sequence[str]) -> int:
    """Runs the service; gives the exit status."""
    config = parse_flags(TokenizerServiceConfig, "python -m tokenizer_service", _ABOUT, arguments)
    set_up_logging()
    if config.workers > 1:
        return asyncio.run(Workers(config).run())
    forbid_torch()
    try:
        asyncio.run(_serve(config))
    except (ValueError, MismatchError) as error:
        print(f"tokenizer service: {error}", file=sys.stderr)
        return EXIT_UNUSABLE
    return 0


async def _serve(config: TokenizerServiceConfig) -> None:
    # transformers is imported here and must not find torch.
    from tokenizer_service.service import serve

    def announce(address: str) -> None:
        # One write, since other workers write to the same output.
        sys.stdout.write(f"tokenizer service listens on {address}, model {config.served_name}\n")
        sys.stdout.flush()

    await serve(config, _orphaned_or_terminated if config.is_worker else wait_for_termination, announce)


async def _orphaned_or_terminated() -> None:
    """Returns on a signal, or when the process that started this worker, and holds its input, is gone."""
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), gone.set)
    await asyncio.wait(
        [asyncio.ensure_future(wait_for_termination()), asyncio.ensure_future(gone.wait())],
        return_when=asyncio.FIRST_COMPLETED,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
