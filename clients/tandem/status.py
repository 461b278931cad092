"""gRPC statuses and their details as Tandem's errors."""

from typing import Any

import grpc

from tandem import errors
from tandem.v1 import error_pb2

_DETAILS_TRAILER = "grpc-status-details-bin"
_TYPE_URL_PREFIX = "type.googleapis.com/google.rpc."

_ERROR_TYPES: dict[grpc.StatusCode, type[errors.TandemError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequestError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnimplementedError,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExistsError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPreconditionError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.OverloadedError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.CANCELLED: errors.RequestCancelledError,
    grpc.StatusCode.INTERNAL: errors.InternalError,
    grpc.StatusCode.UNKNOWN: errors.InternalError,
}
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def from_rpc_error(rpc_error: Any) -> errors.TandemError:
    """The error for a failed call of either kind of channel, with the details of its trailer."""
    code: grpc.StatusCode = rpc_error.code()
    status = error_pb2.Status()
    for key, value in rpc_error.trailing_metadata() or ():
        if key == _DETAILS_TRAILER:
            status.MergeFromString(value)
    return _error(code, rpc_error.details() or "", status)


def from_status(status: error_pb2.Status) -> errors.TandemError:
    """The error for a status that came as a message."""
    return _error(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message, status)


def _error(code: grpc.StatusCode, message: str, status: error_pb2.Status) -> errors.TandemError:
    violations: tuple[errors.Violation, ...] = ()
    retry_delay_s = None
    info = error_pb2.ErrorInfo()
    for detail in status.details:
        if detail.type_url == _TYPE_URL_PREFIX + "BadRequest":
            found = error_pb2.BadRequest.FromString(detail.value).field_violations
            violations = tuple(errors.Violation(each.field, each.description) for each in found)
        elif detail.type_url == _TYPE_URL_PREFIX + "RetryInfo":
            delay = error_pb2.RetryInfo.FromString(detail.value).retry_delay
            retry_delay_s = delay.seconds + delay.nanos / 1e9
        elif detail.type_url == _TYPE_URL_PREFIX + "ErrorInfo":
            info = error_pb2.ErrorInfo.FromString(detail.value)
    error_type = _ERROR_TYPES.get(code, errors.TandemError)
    return error_type(
        message,
        status=code,
        violations=violations,
        retry_delay_s=retry_delay_s,
        reason=info.reason,
        metadata=dict(info.metadata),
    )
