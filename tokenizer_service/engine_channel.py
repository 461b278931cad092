"""Channels to the engine: their address, their certificates, and the token that they show."""

import grpc

from tandem_service.access import Metadata, bearer
from tandem_service.tls import ChannelTls, channel_credentials
from tandem_service.watched_files import read_file

_OPTIONS: list[tuple[str, int | str]] = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Otherwise a ping waits a minute for its answer, whatever the keepalive's timeout is.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # The session does the waiting between attempts; gRPC's own would be shared between channels.
    ("grpc.use_local_subchannel_pool", 1),
]


class EngineChannels:
    """Opens channels to one engine. Files are read anew each time, so that a rotation needs no restart.

    Attributes:
        address: `HOST:PORT` or `unix:PATH`.
    """

    def __init__(self, address: str, tls: ChannelTls, token_file: str) -> None:
        """`token_file` holds the token and nothing else; empty shows none.

        Raises:
            ValueError: A file cannot be used.
        """
        self.address = address
        self._tls = tls
        self._token_file = token_file
        self.metadata()
        if tls.ca:
            channel_credentials(tls)

    def open(self) -> grpc.aio.Channel:
        """A channel of its own connection.

        Raises:
            ValueError: A file cannot be used any more.
        """
        if not self._tls.ca:
            return grpc.aio.insecure_channel(self.address, _OPTIONS)
        name = [("grpc.ssl_target_name_override", self._tls.name)] if self._tls.name else []
        return grpc.aio.secure_channel(self.address, channel_credentials(self._tls), [*_OPTIONS, *name])

    def metadata(self) -> Metadata:
        """What each call carries.

        Raises:
            ValueError: The token file cannot be used.
        """
        if not self._token_file:
            return ()
        token = read_file("engine_token_file", self._token_file).strip()
        if not token or not token.isascii() or len(token.split()) != 1:
            raise ValueError(f"engine_token_file={self._token_file!r}: must hold one token")
        return bearer(token.decode())
