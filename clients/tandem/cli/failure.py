"""One line for what went wrong."""

from tandem.cli.health import State, check
from tandem.errors import TandemError, UnavailableError


def explain(error: TandemError, target: str) -> str:
    """What a person at a terminal can do about a failed call to `target`."""
    if isinstance(error, UnavailableError) and check(target) is State.UNREACHABLE:
        return f"nothing answers at {target}; start the services with `tandem serve`, or give --target"
    if error.retry_delay_s is not None:
        return f"{error}; try again in {error.retry_delay_s:g} s"
    return str(error)
