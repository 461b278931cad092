"""One line for what went wrong."""

import argparse

from tandem.cli.flags import credentials
from tandem.cli.health import State, check
from tandem.errors import TandemError, UnavailableError

# What gRPC says of a peer that takes the connection and then hangs up.
_HUNG_UP = "Socket closed"
_BAD_CERTIFICATE = "CERTIFICATE_VERIFY_FAILED"


def explain(error: TandemError, arguments: argparse.Namespace) -> str:
    """What a person at a terminal can do about a failed call to the target of a command."""
    if isinstance(error, UnavailableError):
        is_unreachable = check(arguments.target, credentials=credentials(arguments)) is State.UNREACHABLE
        return _explain_unreachable(error, arguments.target) if is_unreachable else str(error)
    if error.retry_delay_s is not None:
        return f"{error}; try again in {error.retry_delay_s:g} s"
    return str(error)


def _explain_unreachable(error: UnavailableError, target: str) -> str:
    if _BAD_CERTIFICATE in error.message:
        return f"the certificate of {target} does not come from the roots in --tls-ca"
    if _HUNG_UP in error.message:
        return (
            f"{target} hangs up: it may speak TLS (give --tls-ca), "
            "or want to see a certificate (--tls-cert, --tls-key)"
        )
    return f"nothing answers at {target}; start the services with `tandem serve`, or give --target"
