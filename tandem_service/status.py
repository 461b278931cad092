"""Errors as gRPC statuses, and back."""

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from tandem.v1 import error_pb2
from tandem_service import errors

STATUS_CODES: dict[type[errors.ServiceError], grpc.StatusCode] = {
    errors.InvalidRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.UnsupportedError: grpc.StatusCode.UNIMPLEMENTED,
    errors.DuplicateRequestError: grpc.StatusCode.ALREADY_EXISTS,
    errors.MismatchError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.UnauthenticatedError: grpc.StatusCode.UNAUTHENTICATED,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.OverloadedError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.UnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.RequestCancelledError: grpc.StatusCode.CANCELLED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}
DETAILS_TRAILER = "grpc-status-details-bin"

_ERROR_TYPES = {code.value[0]: error_type for error_type, code in STATUS_CODES.items()}
_TYPE_URL_PREFIX = "type.googleapis.com/google.rpc."
_DOMAIN = "tandem"
# The client's clock of the deadline started before ours did, so that its end comes early here.
_EARLY_S = 0.25


def to_status(error: errors.ServiceError) -> error_pb2.Status:
    """The status message of an error, with BadRequest, RetryInfo and ErrorInfo details where it has them."""
    status = error_pb2.Status(code=STATUS_CODES[type(error)].value[0], message=error.message)
    if error.violations:
        bad_request = error_pb2.BadRequest()
        for violation in error.violations:
            bad_request.field_violations.add(field=violation.field, description=violation.description)
        _add_detail(status, bad_request)
    if error.retry_delay_s is not None:
        retry = error_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_delay_s * 1000))
        _add_detail(status, retry)
    if error.info is not None:
        info = error_pb2.ErrorInfo(reason=error.info.reason, domain=_DOMAIN, metadata=error.info.metadata)
        _add_detail(status, info)
    return status


def from_status(status: error_pb2.Status) -> errors.ServiceError:
    """The error that `to_status` made `status` of; unknown codes become InternalError."""
    violations: tuple[errors.Violation, ...] = ()
    retry_delay_s = info = None
    for detail in status.details:
        if detail.type_url == _TYPE_URL_PREFIX + "BadRequest":
            found = error_pb2.BadRequest.FromString(detail.value).field_violations
            violations = tuple(errors.Violation(each.field, each.description) for each in found)
        elif detail.type_url == _TYPE_URL_PREFIX + "RetryInfo":
            retry_delay_s = error_pb2.RetryInfo.FromString(detail.value).retry_delay.ToMilliseconds() / 1000
        elif detail.type_url == _TYPE_URL_PREFIX + "ErrorInfo":
            sent = error_pb2.ErrorInfo.FromString(detail.value)
            info = errors.ErrorInfo(sent.reason, dict(sent.metadata))
    error_type = _ERROR_TYPES.get(status.code, errors.InternalError)
    return error_type(status.message, violations=violations, retry_delay_s=retry_delay_s, info=info)


def code_of_cancelled(left_s: float | None) -> grpc.StatusCode:
    """Why a call was cancelled from outside; `left_s` is to its deadline, None where it has none.

    gRPC cancels a call at its deadline, too.
    """
    is_late = left_s is not None and left_s < _EARLY_S
    return grpc.StatusCode.DEADLINE_EXCEEDED if is_late else grpc.StatusCode.CANCELLED


async def abort(context: "grpc.aio.ServicerContext[object, object]", error: errors.ServiceError) -> None:
    """Ends a call with the error's status and details. Always raises."""
    details = to_status(error).SerializeToString()
    code = STATUS_CODES[type(error)]
    await context.abort(code, error.message, trailing_metadata=((DETAILS_TRAILER, details),))


def _add_detail(status: error_pb2.Status, message: Message) -> None:
    name = type(message).DESCRIPTOR.name
    status.details.append(Any(type_url=_TYPE_URL_PREFIX + name, value=message.SerializeToString()))
