"""The errors that a service tells its client about. Statuses are made of them in `status.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Self, TypeVar

from tandem_service import metadata_budget

RETRY_DELAY_S = 1.0
"""After how many seconds a client may try again, where nothing tells it better."""


@dataclass(frozen=True)
class Violation:
    """One wrong field of a request.

    Attributes:
        field: Its path in the request, for example `sampling.top_p`.
        description: The value that was sent and the bound that it broke.
    """

    field: str
    description: str


@dataclass(frozen=True)
class ErrorInfo:
    """What a program needs to act on an error.

    Attributes:
        reason: In capitals, for example ENGINE_LOST.
        metadata: Facts by their names.
    """

    reason: str
    metadata: Mapping[str, str] = field(default_factory=dict)


class ServiceError(Exception):
    """A request failed in a way that its client can understand.

    Attributes:
        message: One sentence.
        violations: Wrong fields, if that was the reason.
        retry_delay_s: Seconds after which a retry may succeed, or None.
        info: What a program needs to act on it, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        violations: tuple[Violation, ...] = (),
        retry_delay_s: float | None = None,
        info: ErrorInfo | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.violations = violations
        self.retry_delay_s = retry_delay_s
        self.info = info

    def with_metadata(self, **metadata: str) -> Self:
        """The same error with more facts in its `info`, which it must have."""
        assert self.info is not None
        return type(self)(
            self.message,
            violations=self.violations,
            retry_delay_s=self.retry_delay_s,
            info=replace(self.info, metadata={**self.info.metadata, **metadata}),
        )


_Error = TypeVar("_Error", bound=ServiceError)


class InvalidRequestError(ServiceError):
    """Fields of the request are wrong; the same request fails again."""


class UnsupportedError(ServiceError):
    """The request asks for something that this service does not do."""


class DuplicateRequestError(ServiceError):
    """Another request with this id is running, or lingers."""


class MismatchError(ServiceError):
    """The two services do not belong together."""


class UnauthenticatedError(ServiceError):
    """The caller shows no token that lets it in."""


class NotFoundError(ServiceError):
    """The request names something that is not there, or no more."""


class OverloadedError(ServiceError):
    """More work than the queue holds."""


class UnavailableError(ServiceError):
    """The service, or the one behind it, is not there; the request may be sent again."""


class DeadlineError(ServiceError):
    """The request's deadline passed."""


class RequestCancelledError(ServiceError):
    """The client cancelled the request."""


class InternalError(ServiceError):
    """Something broke while this request ran."""


def invalid(*violations: Violation) -> InvalidRequestError:
    """The error for wrong fields; its message says them too.

    It has the first ones that fit a status, cut where they are long, and says how many more there are.
    """
    return _of(InvalidRequestError, violations)


def unsupported(field: str, description: str) -> UnsupportedError:
    """The error for a field that asks for something that this service does not do."""
    return _of(UnsupportedError, (Violation(field, description),))


def not_found(field: str, description: str) -> NotFoundError:
    """The error for a field that names something that is not there."""
    return _of(NotFoundError, (Violation(field, description),))


def _of(error_type: type[_Error], violations: tuple[Violation, ...]) -> _Error:
    fitting = _fitting(violations)
    said = [f"{each.field}: {each.description}" for each in fitting]
    if len(fitting) < len(violations):
        said.append(f"and {len(violations) - len(fitting)} more")
    return error_type("; ".join(said), violations=fitting)


def _fitting(violations: tuple[Violation, ...]) -> tuple[Violation, ...]:
    fitting: list[Violation] = []
    num_left = metadata_budget.BUDGET_BYTES
    for each in violations:
        field, description = metadata_budget.short(each.field, each.description)
        num_left -= metadata_budget.num_bytes(field, description)
        if num_left < 0:
            break
        fitting.append(Violation(field, description))
    return tuple(fitting)
