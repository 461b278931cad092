"""The service that a load goes to, as its clients need it."""

from tandem.cli.flags import Connection


class Server(Connection):
    """Keyword arguments of a client."""

    target: str


def plain_server(target: str) -> Server:
    """One in plain text that wants to see nothing, such as those that are started to be measured."""
    return Server(target=target, tls_ca=None, tls_cert=None, tls_key=None, token=None)
