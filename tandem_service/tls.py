"""TLS of listeners and channels: certificates from PEM files, checked before gRPC sees them."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc

from tandem_service.watched_files import Watched, read_file, stamp

Made = TypeVar("Made")


def _check_together(cert_name: str, cert: str, key_name: str, key: str) -> None:
    if bool(cert) != bool(key):
        raise ValueError(f"{cert_name}={cert!r}, {key_name}={key!r}: must be given together")


@dataclass(frozen=True)
class ListenerTls:
    """The files of a listener; without a certificate it speaks plain text.

    Attributes:
        cert: The certificate, and those between it and the root.
        key: Its private key, not encrypted.
        client_ca: Roots of the clients' certificates; if set, clients must show one.

    Raises:
        ValueError: One is given without the others that it needs.
    """

    cert: str = ""
    key: str = ""
    client_ca: str = ""

    def __post_init__(self) -> None:
        _check_together("tls_cert", self.cert, "tls_key", self.key)
        if self.client_ca and not self.cert:
            raise ValueError(f"tls_client_ca={self.client_ca!r}: needs tls_cert and tls_key")


PLAIN_TEXT = ListenerTls()


@dataclass(frozen=True)
class ChannelTls:
    """The files of the channel to the engine; without roots it speaks plain text.

    Attributes:
        ca: Roots of the engine's certificate.
        cert: Our own certificate, where the engine wants to see one.
        key: Its private key, not encrypted.
        name: The name in the engine's certificate, where it is not that of the address.

    Raises:
        ValueError: One is given without the others that it needs.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        _check_together("engine_tls_cert", self.cert, "engine_tls_key", self.key)
        for field in ("cert", "name"):
            value = getattr(self, field)
            if value and not self.ca:
                raise ValueError(f"engine_tls_{field}={value!r}: needs engine_tls_ca")


def channel_credentials(files: ChannelTls) -> grpc.ChannelCredentials:
    """Reads the files of a channel.

    Raises:
        ValueError: One cannot be read, or they do not belong together.
    """
    roots = _read_roots("engine_tls_ca", files.ca)
    if not files.cert:
        return grpc.ssl_channel_credentials(roots)
    key, cert = _read_pair("engine_tls_", files.cert, files.key, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    return grpc.ssl_channel_credentials(roots, key, cert)


def listener_credentials(files: ListenerTls) -> grpc.ServerCredentials:
    """Credentials that are read again before the first handshake after a file has changed.

    Streams that run keep their connection and its certificate. While the new files cannot be used, the
    old ones stay.

    Raises:
        ValueError: A file cannot be read, or they do not belong together.
    """
    certificates = _watched(files, _grpc_certificate)
    # gRPC asks before each handshake, in a thread of its own, and takes None for no change.
    return grpc.dynamic_ssl_server_credentials(
        certificates.newest,
        certificates.renewed,  # type: ignore[arg-type]  # None is missing in its type
        require_client_authentication=bool(files.client_ca),
    )


def listener_contexts(files: ListenerTls) -> Callable[[], ssl.SSLContext]:
    """The same for listeners without gRPC: gives the context of a new connection.

    Raises:
        ValueError: A file cannot be read, or they do not belong together.
    """
    certificates = _watched(files, _context)

    def context() -> ssl.SSLContext:
        certificates.renewed()
        return certificates.newest

    return context


def _watched(files: ListenerTls, make: Callable[[ListenerTls], Made]) -> Watched[Made]:
    paths = [path for path in (files.cert, files.key, files.client_ca) if path]
    return Watched(f"tls_cert={files.cert!r}", paths, lambda: make(files))


def _grpc_certificate(files: ListenerTls) -> grpc.ServerCertificateConfiguration:
    pair = _read_pair("tls_", files.cert, files.key, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    roots = _read_roots("tls_client_ca", files.client_ca) if files.client_ca else None
    return grpc.ssl_server_certificate_configuration([pair], roots)


def _context(files: ListenerTls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _read_pair("tls_", files.cert, files.key, context)
    if files.client_ca:
        context.load_verify_locations(cadata=_read_roots("tls_client_ca", files.client_ca).decode("ascii"))
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _read_pair(prefix: str, cert: str, key: str, context: ssl.SSLContext) -> tuple[bytes, bytes]:
    """Key and certificate, which `context` takes up: gRPC alone would take what does not fit, and fail
    every handshake.
    """
    where = f"{prefix}cert={cert!r}, {prefix}key={key!r}"
    before = stamp([cert, key])
    pair = read_file(f"{prefix}key", key), read_file(f"{prefix}cert", cert)
    try:
        # An empty password: the library would ask for that of an encrypted key at the terminal.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as error:
        # The library's own words name a place in its source; where it has a reason, that is enough.
        reason = error.reason.lower().replace("_", " ") if error.reason else "not in PEM form, or encrypted"
        raise ValueError(f"{where}: {reason}") from None
    except OSError as error:
        raise ValueError(f"{where}: {error.strerror}") from None
    if stamp([cert, key]) != before:
        raise ValueError(f"{where}: changed while they were read")
    return pair


def _read_roots(name: str, path: str) -> bytes:
    roots = read_file(name, path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=roots.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise ValueError(f"{name}={path!r}: holds no certificates in PEM form") from None
    return roots
