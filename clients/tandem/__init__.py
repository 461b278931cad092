"""Tandem's Python client: `Client` for threads, `AsyncClient` for an event loop, and their types."""

from tandem.async_client import AsyncClient
from tandem.async_many import AsyncResults
from tandem.async_stream import AsyncStream
from tandem.client import Client
from tandem.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RequestCancelledError,
    TandemError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    Violation,
)
from tandem.many import Results
from tandem.model import Limits, Model, SamplingDefaults, Tokens
from tandem.request import Image, Message, Request, ResponseFormat, image
from tandem.result import (
    Answer,
    Candidate,
    Completion,
    Delta,
    Event,
    Finished,
    FinishReason,
    Result,
    Started,
    Timings,
    TokenLogprob,
    Usage,
)
from tandem.stream import Stream

__all__ = [
    "AlreadyExistsError",
    "Answer",
    "AsyncClient",
    "AsyncResults",
    "AsyncStream",
    "Candidate",
    "Client",
    "Completion",
    "DeadlineExceededError",
    "Delta",
    "Event",
    "FailedPreconditionError",
    "FinishReason",
    "Finished",
    "Image",
    "InternalError",
    "InvalidRequestError",
    "Limits",
    "Message",
    "Model",
    "NotFoundError",
    "OverloadedError",
    "Request",
    "RequestCancelledError",
    "ResponseFormat",
    "Result",
    "Results",
    "SamplingDefaults",
    "Started",
    "Stream",
    "TandemError",
    "Timings",
    "TokenLogprob",
    "Tokens",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "Usage",
    "Violation",
    "image",
]
