"""Plain events to protobuf of the public contract."""

from collections.abc import Iterable
from typing import Any

from tandem.v1 import common_pb2, inference_pb2
from tandem_service.errors import ServiceError
from tandem_service.status import to_status
from tokenizer_service.config import Limits
from tokenizer_service.engine_info import EngineInfo
from tokenizer_service.events import Delta, Event, Finished, Started, TokenLogprob
from tokenizer_service.request import Sampling


def to_response(request_id: str, event: Event) -> inference_pb2.GenerateResponse:
    """One event of Generate."""
    return inference_pb2.GenerateResponse(request_id=request_id, **_event(event))


def to_many_response(request_id: str, event: Event | ServiceError) -> inference_pb2.GenerateManyResponse:
    """One event of GenerateMany."""
    fields = {"failed": to_status(event)} if isinstance(event, ServiceError) else _event(event)
    return inference_pb2.GenerateManyResponse(request_id=request_id, **fields)


def to_model(
    name: str,
    info: EngineInfo,
    limits: Limits,
    defaults: Sampling,
    *,
    has_vision: bool,
    has_chat_template: bool,
) -> inference_pb2.Model:
    """The entry of a model for ListModels."""
    return inference_pb2.Model(
        name=name,
        architecture=info.architecture,
        context_length=info.context_length,
        vocab_size=info.vocab_size,
        has_vision=has_vision,
        has_chat_template=has_chat_template,
        dtype=info.dtype,
        quantization=info.quantization,
        limits=inference_pb2.Limits(
            max_n=limits.max_n,
            max_stop_strings=limits.max_stop_strings,
            max_stop_string_chars=limits.max_stop_string_chars,
            max_stop_token_ids=limits.max_stop_token_ids,
            max_logprobs=limits.max_logprobs,
            max_logit_bias=limits.max_logit_bias,
            max_request_bytes=limits.max_request_bytes,
        ),
        default_sampling=common_pb2.Sampling(
            temperature=defaults.temperature,
            top_p=defaults.top_p,
            top_k=defaults.top_k,
            min_p=defaults.min_p,
            repetition_penalty=defaults.repetition_penalty,
            presence_penalty=defaults.presence_penalty,
            frequency_penalty=defaults.frequency_penalty,
        ),
    )


def _event(event: Event) -> dict[str, Any]:
    if isinstance(event, Delta):
        return {"delta": _delta(event)}
    if isinstance(event, Started):
        return {"started": _started(event)}
    return {"finished": _finished(event)}


def _started(event: Started) -> inference_pb2.Started:
    return inference_pb2.Started(
        index=event.index,
        prompt_tokens=event.prompt_tokens,
        cached_tokens=event.cached_tokens,
        prompt=event.prompt,
        prompt_token_ids=event.prompt_token_ids,
        prompt_logprobs=_logprobs(event.prompt_logprobs),
    )


def _delta(event: Delta) -> inference_pb2.Delta:
    return inference_pb2.Delta(
        index=event.index,
        text=event.text,
        token_ids=event.token_ids,
        logprobs=_logprobs(event.logprobs),
        num_tokens=event.num_tokens,
    )


def _finished(event: Finished) -> inference_pb2.Finished:
    stop = event.matched_stop
    return inference_pb2.Finished(
        index=event.index,
        reason=common_pb2.FinishReason.Name(event.reason),
        stop_string=stop if isinstance(stop, str) else None,
        stop_token_id=stop if isinstance(stop, int) else None,
        usage=inference_pb2.Usage(
            prompt_tokens=event.usage.prompt_tokens,
            cached_tokens=event.usage.cached_tokens,
            completion_tokens=event.usage.completion_tokens,
        ),
        timings=inference_pb2.Timings(
            queue_ms=event.timings.queue_ms,
            prefill_ms=event.timings.prefill_ms,
            decode_ms=event.timings.decode_ms,
        ),
    )


def _logprobs(entries: Iterable[TokenLogprob]) -> list[inference_pb2.TokenLogprob]:
    return [
        inference_pb2.TokenLogprob(
            token_id=entry.token_id,
            token=entry.token,
            logprob=entry.logprob,
            candidates=[
                inference_pb2.TokenLogprob.Candidate(
                    token_id=each.token_id, token=each.token, logprob=each.logprob
                )
                for each in entry.candidates
            ],
        )
        for entry in entries
    ]
