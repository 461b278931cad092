"""Certificates of a test: one authority, a service's, a client's, and the roots of a stranger."""

from pathlib import Path

import grpc
import trustme


class Certificates:
    """PEM files in a directory.

    Attributes:
        ca: The authority's roots.
        cert: The service's certificate, for 127.0.0.1 and localhost.
        key: Its key.
        client_cert: A client's certificate.
        client_key: Its key.
        other_ca: Roots that none of these come from.
    """

    def __init__(self, directory: Path) -> None:
        self._authority = trustme.CA()
        self.ca = _written(directory / "ca.pem", self._authority.cert_pem.bytes())
        self.cert, self.key = str(directory / "cert.pem"), str(directory / "key.pem")
        self.client_cert, self.client_key = str(directory / "client.pem"), str(directory / "client-key.pem")
        self._issue(self.client_cert, self.client_key, "client")
        self.other_ca = _written(directory / "other.pem", trustme.CA().cert_pem.bytes())
        self.renew()

    def renew(self) -> None:
        """Writes another certificate and key of the service."""
        self._issue(self.cert, self.key, "localhost", "127.0.0.1")

    def break_key(self) -> None:
        """Leaves no key in the service's key file."""
        Path(self.key).write_text("not a key")

    @property
    def listener(self) -> dict[str, str]:
        """The flags of a service."""
        return {"tls_cert": self.cert, "tls_key": self.key}

    @property
    def client(self) -> dict[str, str]:
        """Arguments of a client that shows its certificate."""
        return {"tls_ca": self.ca, "tls_cert": self.client_cert, "tls_key": self.client_key}

    def credentials(self) -> grpc.ChannelCredentials:
        """A channel's, with the client's certificate."""
        files = [Path(path).read_bytes() for path in (self.ca, self.client_key, self.client_cert)]
        return grpc.ssl_channel_credentials(*files)

    def _issue(self, cert: str, key: str, *names: str) -> None:
        issued = self._authority.issue_cert(*names)
        _written(Path(cert), b"".join(each.bytes() for each in issued.cert_chain_pems))
        _written(Path(key), issued.private_key_pem.bytes())


def _written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)
