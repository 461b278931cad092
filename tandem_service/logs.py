"""Logging of a service process: one line a record, to standard error."""

import logging


def set_up_logging(level: str = "INFO") -> None:
    """Sends records of this level and above to standard error.

    Args:
        level: A name that `logging` knows, for example "WARNING".
    """
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
