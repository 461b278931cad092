"""The flags that both services share: who may connect, how they end, and what a connection may do."""

from dataclasses import dataclass

from tandem_service.flags import check_at_least, flag
from tandem_service.observation import ObservationConfig
from tandem_service.tls import ListenerTls


@dataclass(frozen=True)
class ServerConfig(ObservationConfig):
    """The base of the services' configurations.

    Raises:
        ValueError: A value is out of its bounds.
    """

    tls_cert: str = flag(
        "", "PEM file of the certificate chain of this service and its metrics; empty speaks plain text"
    )
    tls_key: str = flag("", "PEM file of the certificate's private key")
    tls_client_ca: str = flag("", "PEM file of the roots of clients' certificates, which they must then show")
    tokens: str = flag(
        "",
        "TOML file of the tokens that are let in, whose quotas each worker of the tokenizer service counts; "
        "empty lets everybody in",
    )
    lame_duck_s: float = flag(
        0.0,
        "time after SIGTERM with health NOT_SERVING and new calls still taken; as long as balancers need "
        "to look away, 0 where there is none",
        unit="seconds",
    )
    grace_s: float = flag(30.0, "time that running calls get then; new ones are refused", unit="seconds")
    ends_with_input: bool = flag(
        False, "end as on SIGTERM when standard input ends; for a parent process that holds its other end"
    )
    max_streams: int = flag(8192, "calls of one connection at once; more wait in the client", unit="calls")
    max_connection_idle_s: float = flag(
        3600.0, "time after which a connection without calls is closed; 0 is never", unit="seconds"
    )
    max_connection_age_s: float = flag(
        0.0,
        "time after which a connection takes no more calls and clients open another; 0 is never",
        unit="seconds",
    )
    max_connection_age_grace_s: float = flag(
        30.0, "time that the calls of such a connection get; they are cut then", unit="seconds"
    )
    keepalive_s: float = flag(20.0, "time between pings to a silent peer", unit="seconds")
    keepalive_timeout_s: float = flag(
        10.0, "time for its answer, after which the connection and its calls end", unit="seconds"
    )
    busy_poll_ms: float = flag(
        0.0,
        "time for which a process looks for work with its CPU kept, before it sleeps; for GPU hosts with "
        "CPUs to spare",
        unit="milliseconds",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, "max_streams", "keepalive_s", "keepalive_timeout_s")
        check_at_least(self, 0, *_AT_LEAST_ZERO)
        _ = self.tls

    @property
    def tls(self) -> ListenerTls:
        """The listener's certificate."""
        return ListenerTls(self.tls_cert, self.tls_key, self.tls_client_ca)


_AT_LEAST_ZERO = (
    "lame_duck_s", "grace_s", "max_connection_idle_s", "max_connection_age_s", "max_connection_age_grace_s",
    "busy_poll_ms",
)  # fmt: skip
