"""The errors that a call may raise."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import grpc

_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong field of a request.

    Attributes:
        field: Its path in the request message, for example `sampling.top_p`.
        description: The value that was sent and the bound that it broke.
    """

    field: str
    description: str


class TandemError(Exception):
    """A call failed. Statuses without a class of their own raise this one.

    Attributes:
        message: One sentence.
        status: The gRPC status.
        violations: Wrong fields, if that was the reason.
        retry_delay_s: Seconds after which the service asks for a retry, or None.
        reason: For programs: a word in capitals such as ENGINE_LOST, or "".
        metadata: What belongs to the reason. For ENGINE_LOST `request_id`, and `num_tokens` of the answer
            that were sent.
    """

    def __init__(
        self,
        message: str,
        *,
        status: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        violations: tuple[Violation, ...] = (),
        retry_delay_s: float | None = None,
        reason: str = "",
        metadata: Mapping[str, str] = _NOTHING,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.violations = violations
        self.retry_delay_s = retry_delay_s
        self.reason = reason
        self.metadata = metadata

    def __str__(self) -> str:
        return f"{self.status.name}: {self.message}"


class InvalidRequestError(TandemError):
    """Fields of the request are wrong; the same request fails again. `violations` names them."""


class UnimplementedError(TandemError):
    """The service does not do what was asked."""


class AlreadyExistsError(TandemError):
    """Another request with this id is running, or lingers."""


class FailedPreconditionError(TandemError):
    """The service is set up in a way that cannot work."""


class UnauthenticatedError(TandemError):
    """The service wants a token, and was shown none that it knows."""


class NotFoundError(TandemError):
    """The request names something that the service does not have, or no more: the hash of an image."""


class OverloadedError(TandemError):
    """More work than the service takes, or a message over the size limit.

    Only in the first case is `retry_delay_s` set; so it is where a quota of the client's token is used up.
    """


class UnavailableError(TandemError):
    """The service cannot be reached, or the engine behind it cannot; a retry may succeed."""


class DeadlineExceededError(TandemError):
    """The call took longer than its timeout; its work has been cancelled."""


class RequestCancelledError(TandemError):
    """The request was cancelled."""


class InternalError(TandemError):
    """Something broke in the service while it ran this request."""
