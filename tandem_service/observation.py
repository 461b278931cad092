"""The flags by which an operator looks into a service; both services have them."""

from dataclasses import dataclass

from tandem_service.flags import flag
from tandem_service.logs import FORMATS, LEVELS


@dataclass(frozen=True)
class ObservationConfig:
    """What a service's configuration inherits.

    Raises:
        ValueError: A value is out of its bounds.
    """

    # Off by default: two services on a machine would want one port, and it answers without a token.
    metrics_listen: str = flag(
        "",
        "Address for Prometheus, HOST:PORT, without a token; HTTPS with --tls-cert, for whom --tls-client-ca "
        "lets in, else HTTP for everybody; empty for none.",
    )
    trace_endpoint: str = flag(
        "",
        "Where to send OpenTelemetry spans by OTLP over gRPC, such as http://127.0.0.1:4317; empty for none.",
    )
    trace_ratio: float = flag(
        1.0, "Share of requests traced, of those that came without a trace of their own.", unit="parts of 1"
    )
    log_level: str = flag("info", "Least level of lines in the log.", choices=LEVELS)
    log_format: str = flag("text", "Shape of lines in the log.", choices=FORMATS)
    log_requests: bool = flag(
        False, "Write a line for each request that ended; never its prompt or its answer."
    )

    def __post_init__(self) -> None:
        if not 0 <= self.trace_ratio <= 1:
            raise ValueError(f"trace_ratio={self.trace_ratio}: must be in [0, 1]")
