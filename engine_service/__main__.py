"""`python -m engine_service`: the engine service on its own."""

import gc
import sys

from engine_service.config import EngineConfig
from engine_service.core_process import start_core
from tandem_service import busy_poll
from tandem_service.flags import parse_flags
from tandem_service.logs import set_up_logging


def main() -> int:
    """Runs the engine service; returns the exit code."""
    about = "Runs a language model and answers tokenizer services with token ids."
    config = parse_flags(EngineConfig, "python -m engine_service", about, sys.argv[1:])
    set_up_logging(config.log_level, config.log_format)
    core = start_core(config)
    try:
        # Only now, as the core imports torch meanwhile.
        from engine_service.server import serve

        # What was imported lives as long as the process: with it a collection takes 15 ms.
        gc.collect()
        gc.freeze()
        return busy_poll.run(serve(config, core), config.busy_poll_ms / 1e3)
    except ValueError as error:
        print(f"engine service: {error}", file=sys.stderr)
        return 1
    finally:
        core.process.kill()  # unless it has ended


if __name__ == "__main__":
    sys.exit(main())
