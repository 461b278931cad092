"""What a client shows a service: certificates, and a token."""

from pathlib import Path

import grpc

Metadata = tuple[tuple[str, str | bytes], ...]


def tls_credentials(
    tls_ca: str | None, tls_cert: str | None, tls_key: str | None
) -> grpc.ChannelCredentials | None:
    """Credentials from PEM files; None without any. See `Client` for the arguments.

    Raises:
        ValueError: A file cannot be read, or is given without the others that it needs.
    """
    if (tls_cert is None) != (tls_key is None):
        raise ValueError(f"tls_cert={tls_cert!r}, tls_key={tls_key!r}: must be given together")
    if tls_ca is None:
        if tls_cert is not None:
            raise ValueError(f"tls_cert={tls_cert!r}: needs tls_ca")
        return None
    key, cert = _read("tls_key", tls_key), _read("tls_cert", tls_cert)
    return grpc.ssl_channel_credentials(_read("tls_ca", tls_ca), key, cert)


def token_metadata(token: str | None) -> Metadata:
    """The metadata of calls that show a token; empty without one.

    Raises:
        ValueError: It cannot be a token. It is not shown in the error.
    """
    if token is None:
        return ()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"token: its {len(token)} characters are no token: printable ASCII without spaces")
    return (("authorization", f"Bearer {token}"),)


def _read(name: str, path: str | None) -> bytes | None:
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{name}={path!r}: {error.strerror}") from None
