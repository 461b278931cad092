"""The engine's protobuf messages and the types behind them."""

import random
from collections.abc import Iterator

from engine_service.config import EngineConfig
from engine_service.core_messages import EngineInfo
from engine_service.image_conversion import image_violations, to_image_refs
from engine_service.plan import Load, StepColumns
from engine_service.sampling_params import MAX_LOGPROBS, MAX_STOP_TOKEN_IDS, SamplingParams
from engine_service.sequence import Logprobs, SequenceSpec
from tandem.engine.v1 import engine_pb2 as pb
from tandem.v1 import common_pb2
from tandem_service.errors import ServiceError, Violation, invalid, unsupported
from tandem_service.model_dir import Fingerprint
from tandem_service.status import to_status

PROTOCOL_VERSION = 1


def to_spec(spec: pb.SequenceSpec, info: EngineInfo) -> SequenceSpec:
    """A sequence as the core takes it.

    Raises:
        ServiceError: Fields are out of bounds, or ask for what this engine does not do.
    """
    _refuse_unsupported(spec)
    sampling = _to_sampling(spec.sampling)
    # The slice is taken at once; to iterate over the field costs a call for each id.
    token_ids = tuple(spec.token_ids[:])
    violations = [*_violations(spec, token_ids, info), *_output_violations(spec, info)]
    violations += sampling.violations(info.vocab_size)
    violations += image_violations(spec, info)
    if violations:
        raise invalid(*violations)
    return SequenceSpec(
        token_ids=token_ids,
        max_tokens=spec.max_tokens,
        sampling=sampling,
        min_tokens=spec.min_tokens,
        stop_token_ids=frozenset(spec.stop_token_ids),
        ignore_eos=spec.ignore_eos,
        logprobs=spec.logprobs if spec.HasField("logprobs") else None,
        prompt_logprobs=spec.prompt_logprobs if spec.HasField("prompt_logprobs") else None,
        priority=spec.priority,
        timeout_s=_seconds(spec, "timeout_ms"),
        first_token_timeout_s=_seconds(spec, "first_token_timeout_ms"),
        images=to_image_refs(spec.images),
        client=spec.client,
        output_token_ids=tuple(spec.output_token_ids),
        request_id=spec.request_id,
        traceparent=spec.traceparent,
        may_overrun=spec.may_overrun,
    )


def from_fingerprint(fingerprint: pb.Fingerprint) -> Fingerprint:
    """A client's fingerprint."""
    return Fingerprint(fingerprint.vocab_size, tuple(fingerprint.eos_token_ids), fingerprint.tokenizer_sha256)


def to_info(info: EngineInfo, config: EngineConfig) -> pb.EngineInfo:
    """The engine's description."""
    return pb.EngineInfo(
        model=info.model,
        architecture=info.architecture,
        dtype=info.dtype,
        fingerprint=pb.Fingerprint(
            vocab_size=info.vocab_size,
            eos_token_ids=info.eos_token_ids,
            tokenizer_sha256=info.tokenizer_sha256,
        ),
        context_length=info.context_length,
        max_num_seqs=config.max_num_seqs,
        max_num_waiting=config.max_num_waiting,
        max_waiting_tokens=config.max_waiting_tokens,
        kv_block_size=info.kv_block_size,
        num_blocks=info.num_blocks,
        has_vision=info.vision is not None,
        epoch=info.epoch,
        device=info.device,
    )


def to_load(load: Load) -> pb.Load:
    """The load."""
    return pb.Load(
        num_running=load.num_running,
        num_waiting=load.num_waiting,
        num_free_blocks=load.num_free_blocks,
        num_blocks=load.num_blocks,
        num_waiting_tokens=load.num_waiting_tokens,
    )


def to_step(columns: StepColumns) -> pb.Step:
    """One step of one session."""
    return pb.Step(
        step=columns.step,
        sequences=columns.sequences,
        tokens=columns.tokens,
        begun_sequences=[sequence for sequence, _ in columns.begun],
        begun_cached_tokens=[num_cached for _, num_cached in columns.begun],
        started_sequences=[each.sequence for each in columns.started],
        started_cached_tokens=[each.num_cached for each in columns.started],
        started_queue_us=[each.queue_us for each in columns.started],
        started_prefill_us=[each.prefill_us for each in columns.started],
        finished_sequences=[sequence for sequence, _ in columns.finished],
        finished_reasons=[_to_reason(reason) for _, reason in columns.finished],
        logprobs=[to_logprobs(*item) for item in columns.logprobs.items()],
        prompt_logprobs=[to_logprobs(*item) for item in columns.prompt_logprobs.items()],
    )


def to_logprobs(sequence: int, logprobs: Logprobs) -> pb.LogprobColumn:
    """Log-probabilities of one sequence."""
    return pb.LogprobColumn(
        sequence=sequence,
        logprobs=logprobs.logprobs,
        num_candidates=logprobs.num_candidates,
        candidate_tokens=logprobs.candidate_tokens,
        candidate_logprobs=logprobs.candidate_logprobs,
    )


def to_generate_response(columns: StepColumns) -> pb.GenerateResponse:
    """One step of a session with a single sequence, number 0."""
    response = pb.GenerateResponse(tokens=columns.tokens)
    for each in columns.started:
        response.cached_tokens = each.num_cached
    for _, reason in columns.finished:
        response.finish_reason = _to_reason(reason)
    if 0 in columns.logprobs:
        response.logprobs.CopyFrom(to_logprobs(0, columns.logprobs[0]))
    if 0 in columns.prompt_logprobs:
        response.prompt_logprobs.CopyFrom(to_logprobs(0, columns.prompt_logprobs[0]))
    return response


def to_rejected(sequence: int, error: ServiceError) -> pb.SessionResponse:
    """The frame that refuses a sequence."""
    return pb.SessionResponse(rejected=pb.Rejected(sequence=sequence, status=to_status(error)))


def _to_reason(reason: int) -> common_pb2.FinishReason:
    return common_pb2.FinishReason.Name(reason) and reason  # type: ignore[return-value]


def _to_sampling(sampling: common_pb2.Sampling) -> SamplingParams:
    given = {
        field.name: value
        for field, value in sampling.ListFields()
        if field.name not in ("logit_bias", "seed")
    }
    seed = sampling.seed if sampling.HasField("seed") else random.getrandbits(64)
    return SamplingParams(**given, logit_bias=tuple(sorted(sampling.logit_bias.items())), seed=seed)


def _seconds(spec: pb.SequenceSpec, name: str) -> float | None:
    """A field of optional milliseconds."""
    return getattr(spec, name) / 1000 if spec.HasField(name) else None


def _refuse_unsupported(spec: pb.SequenceSpec) -> None:
    if spec.HasField("response_format"):
        raise unsupported("response_format", "constrained answers are not supported by this engine")
    if spec.adapter:
        raise unsupported("adapter", f"{spec.adapter!r}: adapters are not supported by this engine")


def _violations(spec: pb.SequenceSpec, token_ids: tuple[int, ...], info: EngineInfo) -> Iterator[Violation]:
    num_prompt, total = len(token_ids), len(token_ids) + spec.max_tokens
    if num_prompt == 0:
        yield Violation("token_ids", "is empty; at least 1 id")
    elif (largest := max(token_ids)) >= info.vocab_size:
        yield Violation("token_ids", f"has {largest}; ids are below {info.vocab_size}")
    if spec.max_tokens < 1:
        yield Violation("max_tokens", f"{spec.max_tokens} is less than 1")
    if total > info.context_length:
        yield Violation(
            "max_tokens",
            f"{num_prompt} prompt tokens and max_tokens={spec.max_tokens} are more than the context "
            f"length of {info.context_length}",
        )
    if len(spec.stop_token_ids) > MAX_STOP_TOKEN_IDS:
        yield Violation("stop_token_ids", f"{len(spec.stop_token_ids)} ids; at most {MAX_STOP_TOKEN_IDS}")
    if any(token >= info.vocab_size for token in spec.stop_token_ids):
        yield Violation("stop_token_ids", f"has {max(spec.stop_token_ids)}; ids are below {info.vocab_size}")
    for name in ("logprobs", "prompt_logprobs"):
        if getattr(spec, name) > MAX_LOGPROBS:
            yield Violation(name, f"{getattr(spec, name)} is more than {MAX_LOGPROBS}")


def _output_violations(spec: pb.SequenceSpec, info: EngineInfo) -> Iterator[Violation]:
    """What is wrong with the tokens of an earlier run, if there are any."""
    if not spec.output_token_ids:
        return
    if (largest := max(spec.output_token_ids)) >= info.vocab_size:
        yield Violation("output_token_ids", f"has {largest}; ids are below {info.vocab_size}")
    if (count := len(spec.output_token_ids)) >= spec.max_tokens:
        yield Violation("output_token_ids", f"has {count} ids; fewer than max_tokens={spec.max_tokens}")
    if spec.HasField("prompt_logprobs"):
        yield Violation("prompt_logprobs", "came with the first token; not with output_token_ids")
