"""From the services' messages to typed results."""

from collections.abc import Iterable
from dataclasses import fields

from tandem import status
from tandem.errors import TandemError
from tandem.model import Limits, Model, SamplingDefaults, Tokens
from tandem.result import (
    Candidate,
    Delta,
    Event,
    Finished,
    FinishReason,
    Started,
    Timings,
    TokenLogprob,
    Usage,
)
from tandem.v1 import common_pb2, inference_pb2

_PREFIX = "FINISH_REASON_"
_REASONS = {
    number: FinishReason(name.removeprefix(_PREFIX).lower())
    for name, number in common_pb2.FinishReason.items()
}


def event(response: inference_pb2.GenerateResponse | inference_pb2.GenerateManyResponse) -> Event:
    """The event that a response carries."""
    request_id = response.request_id
    kind = response.WhichOneof("event")
    if kind == "started":
        return _started(request_id, response.started)
    if kind == "delta":
        return _delta(request_id, response.delta)
    return _finished(request_id, response.finished)


def failure(response: inference_pb2.GenerateManyResponse) -> TandemError | None:
    """Why the response's request failed, or None if the response carries an event."""
    return status.from_status(response.failed) if response.HasField("failed") else None


def models(response: inference_pb2.ListModelsResponse) -> tuple[Model, ...]:
    """The models of a service."""
    return tuple(_model(each) for each in response.models)


def tokens(response: inference_pb2.TokenizeResponse) -> Tokens:
    """The tokens of a text."""
    return Tokens(
        token_ids=tuple(response.token_ids),
        tokens=tuple(response.tokens),
        text=response.text,
        context_length=response.context_length,
    )


def _started(request_id: str, message: inference_pb2.Started) -> Started:
    return Started(
        request_id=request_id,
        index=message.index,
        prompt_tokens=message.prompt_tokens,
        cached_tokens=message.cached_tokens,
        prompt=message.prompt,
        prompt_token_ids=tuple(message.prompt_token_ids),
        prompt_logprobs=_logprobs(message.prompt_logprobs),
    )


def _delta(request_id: str, message: inference_pb2.Delta) -> Delta:
    return Delta(
        request_id=request_id,
        index=message.index,
        text=message.text,
        token_ids=tuple(message.token_ids),
        logprobs=_logprobs(message.logprobs),
        num_tokens=message.num_tokens,
    )


def _finished(request_id: str, message: inference_pb2.Finished) -> Finished:
    usage, timings = message.usage, message.timings
    return Finished(
        request_id=request_id,
        index=message.index,
        # A reason that a newer service added.
        reason=_REASONS.get(message.reason, FinishReason.UNSPECIFIED),
        stop_string=message.stop_string if message.HasField("stop_string") else None,
        stop_token_id=message.stop_token_id if message.HasField("stop_token_id") else None,
        usage=Usage(usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens),
        timings=Timings(timings.queue_ms, timings.prefill_ms, timings.decode_ms),
    )


def _logprobs(entries: Iterable[inference_pb2.TokenLogprob]) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            token_id=each.token_id,
            token=each.token,
            logprob=each.logprob if each.HasField("logprob") else None,
            candidates=tuple(Candidate(c.token_id, c.token, c.logprob) for c in each.candidates),
        )
        for each in entries
    )


def _model(message: inference_pb2.Model) -> Model:
    return Model(
        name=message.name,
        architecture=message.architecture,
        context_length=message.context_length,
        vocab_size=message.vocab_size,
        has_vision=message.has_vision,
        has_chat_template=message.has_chat_template,
        dtype=message.dtype,
        quantization=message.quantization,
        limits=Limits(**{each.name: getattr(message.limits, each.name) for each in fields(Limits)}),
        default_sampling=_sampling(message.default_sampling),
    )


def _sampling(message: common_pb2.Sampling) -> SamplingDefaults:
    scalars = [each.name for each in fields(SamplingDefaults) if each.name != "logit_bias"]
    present = {name: getattr(message, name) for name in scalars if message.HasField(name)}
    return SamplingDefaults(**present, logit_bias=dict(message.logit_bias))
