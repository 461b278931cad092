"""The certificate of a service that this command starts, and how to ask that service for its health."""

import contextlib
import ipaddress
import ssl
from collections.abc import Mapping
from typing import Any

from tandem.channel import ChannelOptions
from tandem.credentials import tls_credentials


class OwnCertificate:
    """PEM files of a service to be started, and those by which its starter gets in.

    Attributes:
        flags: Of the service.
        wants_certificates: Whether clients must show one.
        credentials: Of the starter's channel: it trusts the service's own certificate and no other.
        options: Of that channel: the certificate need not name the address on this machine.
    """

    def __init__(
        self,
        tls_cert: str,
        tls_key: str,
        tls_client_ca: str | None = None,
        tls_check_cert: str | None = None,
        tls_check_key: str | None = None,
    ) -> None:
        """Reads the files.

        Args:
            tls_cert: The service's certificate chain.
            tls_key: Its private key.
            tls_client_ca: Roots of the clients' certificates, which they must then show.
            tls_check_cert: A client's certificate, which the starter shows.
            tls_check_key: Its private key.

        Raises:
            ValueError: A file cannot be used, the certificate names nobody, or the service would not let
                the starter in.
        """
        roots = [] if tls_client_ca is None else [f"--tls-client-ca={tls_client_ca}"]
        self.flags = [f"--tls-cert={tls_cert}", f"--tls-key={tls_key}", *roots]
        self.wants_certificates = tls_client_ca is not None
        try:
            client = _client_context(tls_cert, tls_check_cert, tls_check_key)
            found = _shake_hands(client, _server_context(tls_cert, tls_key, tls_client_ca))
        except OSError as error:  # ssl.SSLError is one
            files = (tls_cert, tls_key, tls_client_ca, tls_check_cert, tls_check_key)
            where = ", ".join(
                f"{name}={path!r}" for name, path in zip(NAMES, files, strict=True) if path is not None
            )
            raise ValueError(f"{where}: {error.strerror or error}") from None
        name = _name_in(found)
        if not name:
            raise ValueError(f"tls_cert={tls_cert!r}: has no DNS name and no address of its service")
        self.credentials = tls_credentials(tls_cert, tls_check_cert, tls_check_key)
        self.options: ChannelOptions = [("grpc.ssl_target_name_override", name)]


NAMES = ("tls_cert", "tls_key", "tls_client_ca", "tls_check_cert", "tls_check_key")
"""The files, in order."""


def own_certificate(files: Mapping[str, str | None]) -> OwnCertificate | None:
    """The certificate in a command's flags, which have `NAMES`; None for plain text.

    Raises:
        ValueError: A flag is given without the others that it needs, or see `OwnCertificate`.
    """
    cert, key, client_ca, check_cert, check_key = (files[name] for name in NAMES)
    if cert is None or key is None:
        _refuse_any(files, NAMES, "needs both tls_cert and tls_key")
        return None
    if client_ca is None:
        _refuse_any(files, NAMES[3:], "needs tls_client_ca")
    elif check_cert is None or check_key is None:
        what = "tls_check_cert and tls_check_key, a client's, to see that the service is up"
        raise ValueError(f"tls_client_ca={client_ca!r}: needs {what}")
    return OwnCertificate(cert, key, client_ca, check_cert, check_key)


def _refuse_any(files: Mapping[str, str | None], names: tuple[str, ...], why: str) -> None:
    for name in names:
        if files[name] is not None:
            raise ValueError(f"{name}={files[name]!r}: {why}")


def _name_in(certificate: dict[str, Any]) -> str:
    """A name that the certificate is good for; empty if it has none."""
    for kind, value in sorted(certificate.get("subjectAltName", ())):  # DNS names first
        if kind == "DNS":
            return str(value).replace("*", "any")
        if kind == "IP Address":
            return str(ipaddress.ip_address(value))  # ::1, which Python decodes as 0:0:0:0:0:0:0:1
    return ""


def _client_context(roots: str, cert: str | None, key: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(roots)
    if cert is not None:
        context.load_cert_chain(cert, key, password="")
    return context


def _server_context(cert: str, key: str, client_ca: str | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key, password="")
    if client_ca is not None:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _shake_hands(client: ssl.SSLContext, server: ssl.SSLContext) -> dict[str, Any]:
    """The server's certificate, decoded, which Python does for a peer's only.

    In memory and before anything is started: what would keep the starter out for ever is seen at once.

    Raises:
        ssl.SSLError: One of the two refuses the other.
    """
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(back, there)
    asked = server.wrap_bio(there, back, server_side=True)
    for side in (asking, asked, asking, asked):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return asking.getpeercert() or {}
