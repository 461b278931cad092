"""Protobuf of the engine's contract, from and to plain types."""

import time
from collections.abc import Collection, Iterator, Mapping

from tandem.engine.v1 import engine_pb2
from tandem.v1 import common_pb2
from tandem_service.model_dir import Fingerprint
from tokenizer_service.engine_info import EngineInfo, SequenceSpec
from tokenizer_service.engine_sequence import EngineSequence, LogprobRow, SequenceStart
from tokenizer_service.events import FinishReason
from tokenizer_service.pixels import Pixels

PROTOCOL_VERSION = 1
_MAX_TIMEOUT_MS = 2**32 - 1


def to_hello(fingerprint: Fingerprint) -> engine_pb2.SessionRequest:
    """The first message of a session."""
    message = engine_pb2.Fingerprint(
        vocab_size=fingerprint.vocab_size,
        eos_token_ids=fingerprint.eos_token_ids,
        tokenizer_sha256=fingerprint.tokenizer_sha256,
    )
    hello = engine_pb2.ClientHello(protocol_version=PROTOCOL_VERSION, fingerprint=message)
    return engine_pb2.SessionRequest(hello=hello)


def from_info(info: engine_pb2.EngineInfo) -> EngineInfo:
    """What the engine said about itself."""
    return EngineInfo(
        model=info.model,
        architecture=info.architecture,
        dtype=info.dtype,
        quantization=info.quantization,
        context_length=info.context_length,
        vocab_size=info.fingerprint.vocab_size,
        epoch=info.epoch,
        has_vision=info.has_vision,
    )


def to_spec(spec: SequenceSpec) -> engine_pb2.SequenceSpec:
    """A sequence to run, without its timeouts."""
    sampling = spec.sampling
    return engine_pb2.SequenceSpec(
        token_ids=spec.token_ids,
        images=[
            engine_pb2.ImageRange(sha256=each.pixels.sha256, start=each.start, length=each.length)
            for each in spec.images
        ],
        sampling=common_pb2.Sampling(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            min_p=sampling.min_p,
            repetition_penalty=sampling.repetition_penalty,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            logit_bias=sampling.logit_bias,
            seed=spec.seed,
        ),
        max_tokens=spec.max_tokens,
        min_tokens=spec.min_tokens,
        stop_token_ids=spec.stop_token_ids,
        ignore_eos=spec.ignore_eos,
        logprobs=spec.logprobs,
        prompt_logprobs=spec.prompt_logprobs,
        priority=spec.priority,
        client=spec.client,
        request_id=spec.request_id,
        traceparent=spec.traceparent,
        may_overrun=spec.may_overrun,
    )


def to_put_image(pixels: Pixels) -> engine_pb2.PutImageRequest:
    """The message that leaves an image with the engine."""
    return engine_pb2.PutImageRequest(
        sha256=pixels.sha256, height=pixels.height, width=pixels.width, pixels=pixels.data
    )


def to_timeout_ms(seconds: float) -> int:
    """Seconds as the engine takes them; at least one millisecond."""
    return min(max(1, round(seconds * 1000)), _MAX_TIMEOUT_MS)


def deliver(step: engine_pb2.Step, sequences: Mapping[int, EngineSequence]) -> Collection[EngineSequence]:
    """Puts what one step brought into the mailboxes; gives the sequences that got mail.

    What concerns other sequences is surplus of ended ones.
    """
    touched = {}
    # Everything else is done once for each step or sequence; this loop runs once for each token.
    for number, token in zip(step.sequences, step.tokens, strict=True):
        sequence = sequences.get(number)
        if sequence is not None:
            if not sequence.tokens:
                touched[number] = sequence
            sequence.tokens.append(token)
    _deliver_logprobs(step, sequences)
    for number, cached_tokens in zip(step.begun_sequences, step.begun_cached_tokens, strict=True):
        if number in sequences:
            sequences[number].begin(cached_tokens)
            touched[number] = sequences[number]
    _deliver_starts(step, sequences, touched)
    now_s = time.monotonic()
    for sequence in touched.values():
        sequence.touch(now_s)
    for number, reason in zip(step.finished_sequences, step.finished_reasons, strict=True):
        if number in sequences:
            touched[number] = sequences[number]
            sequences[number].finish(FinishReason(reason), now_s)
    return touched.values()


def _deliver_logprobs(step: engine_pb2.Step, sequences: Mapping[int, EngineSequence]) -> None:
    for column in step.logprobs:
        if column.sequence in sequences:
            sequences[column.sequence].logprobs += _rows(column)


def _deliver_starts(
    step: engine_pb2.Step, sequences: Mapping[int, EngineSequence], touched: dict[int, EngineSequence]
) -> None:
    prompt_columns = {column.sequence: column for column in step.prompt_logprobs}
    columns = zip(
        step.started_sequences,
        step.started_cached_tokens,
        step.started_queue_us,
        step.started_prefill_us,
        strict=True,
    )
    for number, cached_tokens, queue_us, prefill_us in columns:
        if number in sequences:
            column = prompt_columns.get(number)
            rows = list(_rows(column)) if column else []
            sequences[number].start(SequenceStart(cached_tokens, queue_us, prefill_us, rows))
            touched[number] = sequences[number]


def _rows(column: engine_pb2.LogprobColumn) -> Iterator[LogprobRow]:
    k = column.num_candidates
    for i, logprob in enumerate(column.logprobs):
        ids = column.candidate_tokens[i * k : (i + 1) * k]
        yield LogprobRow(
            logprob, tuple(zip(ids, column.candidate_logprobs[i * k : (i + 1) * k], strict=True))
        )
