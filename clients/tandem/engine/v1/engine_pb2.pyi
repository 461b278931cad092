from tandem.v1 import common_pb2 as _common_pb2
from tandem.v1 import error_pb2 as _error_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Fingerprint(_message.Message):
    __slots__ = ("vocab_size", "eos_token_ids", "tokenizer_sha256")
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_SHA256_FIELD_NUMBER: _ClassVar[int]
    vocab_size: int
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    tokenizer_sha256: bytes
    def __init__(self, vocab_size: _Optional[int] = ..., eos_token_ids: _Optional[_Iterable[int]] = ..., tokenizer_sha256: _Optional[bytes] = ...) -> None: ...

class ClientHello(_message.Message):
    __slots__ = ("protocol_version", "fingerprint")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    fingerprint: Fingerprint
    def __init__(self, protocol_version: _Optional[int] = ..., fingerprint: _Optional[_Union[Fingerprint, _Mapping]] = ...) -> None: ...

class ServerHello(_message.Message):
    __slots__ = ("protocol_version", "info")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    info: EngineInfo
    def __init__(self, protocol_version: _Optional[int] = ..., info: _Optional[_Union[EngineInfo, _Mapping]] = ...) -> None: ...

class ImageRange(_message.Message):
    __slots__ = ("sha256", "start", "length")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    start: int
    length: int
    def __init__(self, sha256: _Optional[bytes] = ..., start: _Optional[int] = ..., length: _Optional[int] = ...) -> None: ...

class SequenceSpec(_message.Message):
    __slots__ = ("token_ids", "images", "sampling", "max_tokens", "min_tokens", "stop_token_ids", "ignore_eos", "logprobs", "prompt_logprobs", "priority", "timeout_ms", "response_format", "adapter", "first_token_timeout_ms", "output_token_ids", "client", "request_id", "traceparent", "may_overrun")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    MIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    IGNORE_EOS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FORMAT_FIELD_NUMBER: _ClassVar[int]
    ADAPTER_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    MAY_OVERRUN_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    images: _containers.RepeatedCompositeFieldContainer[ImageRange]
    sampling: _common_pb2.Sampling
    max_tokens: int
    min_tokens: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    ignore_eos: bool
    logprobs: int
    prompt_logprobs: int
    priority: int
    timeout_ms: int
    response_format: _common_pb2.ResponseFormat
    adapter: str
    first_token_timeout_ms: int
    output_token_ids: _containers.RepeatedScalarFieldContainer[int]
    client: str
    request_id: str
    traceparent: str
    may_overrun: bool
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., images: _Optional[_Iterable[_Union[ImageRange, _Mapping]]] = ..., sampling: _Optional[_Union[_common_pb2.Sampling, _Mapping]] = ..., max_tokens: _Optional[int] = ..., min_tokens: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., ignore_eos: bool = ..., logprobs: _Optional[int] = ..., prompt_logprobs: _Optional[int] = ..., priority: _Optional[int] = ..., timeout_ms: _Optional[int] = ..., response_format: _Optional[_Union[_common_pb2.ResponseFormat, _Mapping]] = ..., adapter: _Optional[str] = ..., first_token_timeout_ms: _Optional[int] = ..., output_token_ids: _Optional[_Iterable[int]] = ..., client: _Optional[str] = ..., request_id: _Optional[str] = ..., traceparent: _Optional[str] = ..., may_overrun: bool = ...) -> None: ...

class Submit(_message.Message):
    __slots__ = ("sequence", "spec")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    spec: SequenceSpec
    def __init__(self, sequence: _Optional[int] = ..., spec: _Optional[_Union[SequenceSpec, _Mapping]] = ...) -> None: ...

class StopAt(_message.Message):
    __slots__ = ("sequence", "num_tokens")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    num_tokens: int
    def __init__(self, sequence: _Optional[int] = ..., num_tokens: _Optional[int] = ...) -> None: ...

class SessionRequest(_message.Message):
    __slots__ = ("hello", "submits", "cancels", "stops", "images")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    SUBMITS_FIELD_NUMBER: _ClassVar[int]
    CANCELS_FIELD_NUMBER: _ClassVar[int]
    STOPS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    hello: ClientHello
    submits: _containers.RepeatedCompositeFieldContainer[Submit]
    cancels: _containers.RepeatedScalarFieldContainer[int]
    stops: _containers.RepeatedCompositeFieldContainer[StopAt]
    images: _containers.RepeatedCompositeFieldContainer[PutImageRequest]
    def __init__(self, hello: _Optional[_Union[ClientHello, _Mapping]] = ..., submits: _Optional[_Iterable[_Union[Submit, _Mapping]]] = ..., cancels: _Optional[_Iterable[int]] = ..., stops: _Optional[_Iterable[_Union[StopAt, _Mapping]]] = ..., images: _Optional[_Iterable[_Union[PutImageRequest, _Mapping]]] = ...) -> None: ...

class Step(_message.Message):
    __slots__ = ("step", "sequences", "tokens", "started_sequences", "started_cached_tokens", "started_queue_us", "started_prefill_us", "finished_sequences", "finished_reasons", "logprobs", "prompt_logprobs", "begun_sequences", "begun_cached_tokens")
    STEP_FIELD_NUMBER: _ClassVar[int]
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    STARTED_SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    STARTED_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STARTED_QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    STARTED_PREFILL_US_FIELD_NUMBER: _ClassVar[int]
    FINISHED_SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    FINISHED_REASONS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    BEGUN_SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    BEGUN_CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    step: int
    sequences: _containers.RepeatedScalarFieldContainer[int]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    started_sequences: _containers.RepeatedScalarFieldContainer[int]
    started_cached_tokens: _containers.RepeatedScalarFieldContainer[int]
    started_queue_us: _containers.RepeatedScalarFieldContainer[int]
    started_prefill_us: _containers.RepeatedScalarFieldContainer[int]
    finished_sequences: _containers.RepeatedScalarFieldContainer[int]
    finished_reasons: _containers.RepeatedScalarFieldContainer[_common_pb2.FinishReason]
    logprobs: _containers.RepeatedCompositeFieldContainer[LogprobColumn]
    prompt_logprobs: _containers.RepeatedCompositeFieldContainer[LogprobColumn]
    begun_sequences: _containers.RepeatedScalarFieldContainer[int]
    begun_cached_tokens: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, step: _Optional[int] = ..., sequences: _Optional[_Iterable[int]] = ..., tokens: _Optional[_Iterable[int]] = ..., started_sequences: _Optional[_Iterable[int]] = ..., started_cached_tokens: _Optional[_Iterable[int]] = ..., started_queue_us: _Optional[_Iterable[int]] = ..., started_prefill_us: _Optional[_Iterable[int]] = ..., finished_sequences: _Optional[_Iterable[int]] = ..., finished_reasons: _Optional[_Iterable[_Union[_common_pb2.FinishReason, str]]] = ..., logprobs: _Optional[_Iterable[_Union[LogprobColumn, _Mapping]]] = ..., prompt_logprobs: _Optional[_Iterable[_Union[LogprobColumn, _Mapping]]] = ..., begun_sequences: _Optional[_Iterable[int]] = ..., begun_cached_tokens: _Optional[_Iterable[int]] = ...) -> None: ...

class LogprobColumn(_message.Message):
    __slots__ = ("sequence", "logprobs", "num_candidates", "candidate_tokens", "candidate_logprobs")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    NUM_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    logprobs: _containers.RepeatedScalarFieldContainer[float]
    num_candidates: int
    candidate_tokens: _containers.RepeatedScalarFieldContainer[int]
    candidate_logprobs: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, sequence: _Optional[int] = ..., logprobs: _Optional[_Iterable[float]] = ..., num_candidates: _Optional[int] = ..., candidate_tokens: _Optional[_Iterable[int]] = ..., candidate_logprobs: _Optional[_Iterable[float]] = ...) -> None: ...

class Rejected(_message.Message):
    __slots__ = ("sequence", "status")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    status: _error_pb2.Status
    def __init__(self, sequence: _Optional[int] = ..., status: _Optional[_Union[_error_pb2.Status, _Mapping]] = ...) -> None: ...

class NeedImage(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    def __init__(self, sha256: _Optional[bytes] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("num_running", "num_waiting", "num_free_blocks", "num_blocks", "num_waiting_tokens")
    NUM_RUNNING_FIELD_NUMBER: _ClassVar[int]
    NUM_WAITING_FIELD_NUMBER: _ClassVar[int]
    NUM_FREE_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    NUM_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    NUM_WAITING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    num_running: int
    num_waiting: int
    num_free_blocks: int
    num_blocks: int
    num_waiting_tokens: int
    def __init__(self, num_running: _Optional[int] = ..., num_waiting: _Optional[int] = ..., num_free_blocks: _Optional[int] = ..., num_blocks: _Optional[int] = ..., num_waiting_tokens: _Optional[int] = ...) -> None: ...

class SessionResponse(_message.Message):
    __slots__ = ("hello", "step", "rejected", "need_image", "load")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    REJECTED_FIELD_NUMBER: _ClassVar[int]
    NEED_IMAGE_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    hello: ServerHello
    step: Step
    rejected: Rejected
    need_image: NeedImage
    load: Load
    def __init__(self, hello: _Optional[_Union[ServerHello, _Mapping]] = ..., step: _Optional[_Union[Step, _Mapping]] = ..., rejected: _Optional[_Union[Rejected, _Mapping]] = ..., need_image: _Optional[_Union[NeedImage, _Mapping]] = ..., load: _Optional[_Union[Load, _Mapping]] = ...) -> None: ...

class GenerateRequest(_message.Message):
    __slots__ = ("spec",)
    SPEC_FIELD_NUMBER: _ClassVar[int]
    spec: SequenceSpec
    def __init__(self, spec: _Optional[_Union[SequenceSpec, _Mapping]] = ...) -> None: ...

class GenerateResponse(_message.Message):
    __slots__ = ("tokens", "finish_reason", "cached_tokens", "logprobs", "prompt_logprobs")
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    CACHED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    tokens: _containers.RepeatedScalarFieldContainer[int]
    finish_reason: _common_pb2.FinishReason
    cached_tokens: int
    logprobs: LogprobColumn
    prompt_logprobs: LogprobColumn
    def __init__(self, tokens: _Optional[_Iterable[int]] = ..., finish_reason: _Optional[_Union[_common_pb2.FinishReason, str]] = ..., cached_tokens: _Optional[int] = ..., logprobs: _Optional[_Union[LogprobColumn, _Mapping]] = ..., prompt_logprobs: _Optional[_Union[LogprobColumn, _Mapping]] = ...) -> None: ...

class PutImageRequest(_message.Message):
    __slots__ = ("sha256", "height", "width", "pixels")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    sha256: bytes
    height: int
    width: int
    pixels: bytes
    def __init__(self, sha256: _Optional[bytes] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., pixels: _Optional[bytes] = ...) -> None: ...

class PutImageResponse(_message.Message):
    __slots__ = ("was_cached",)
    WAS_CACHED_FIELD_NUMBER: _ClassVar[int]
    was_cached: bool
    def __init__(self, was_cached: bool = ...) -> None: ...

class GetEngineInfoRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetEngineInfoResponse(_message.Message):
    __slots__ = ("info",)
    INFO_FIELD_NUMBER: _ClassVar[int]
    info: EngineInfo
    def __init__(self, info: _Optional[_Union[EngineInfo, _Mapping]] = ...) -> None: ...

class EngineInfo(_message.Message):
    __slots__ = ("model", "architecture", "dtype", "quantization", "fingerprint", "context_length", "max_num_seqs", "max_num_waiting", "kv_block_size", "num_blocks", "has_vision", "epoch", "device", "max_waiting_tokens")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    MAX_NUM_SEQS_FIELD_NUMBER: _ClassVar[int]
    MAX_NUM_WAITING_FIELD_NUMBER: _ClassVar[int]
    KV_BLOCK_SIZE_FIELD_NUMBER: _ClassVar[int]
    NUM_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    HAS_VISION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MAX_WAITING_TOKENS_FIELD_NUMBER: _ClassVar[int]
    model: str
    architecture: str
    dtype: str
    quantization: str
    fingerprint: Fingerprint
    context_length: int
    max_num_seqs: int
    max_num_waiting: int
    kv_block_size: int
    num_blocks: int
    has_vision: bool
    epoch: str
    device: str
    max_waiting_tokens: int
    def __init__(self, model: _Optional[str] = ..., architecture: _Optional[str] = ..., dtype: _Optional[str] = ..., quantization: _Optional[str] = ..., fingerprint: _Optional[_Union[Fingerprint, _Mapping]] = ..., context_length: _Optional[int] = ..., max_num_seqs: _Optional[int] = ..., max_num_waiting: _Optional[int] = ..., kv_block_size: _Optional[int] = ..., num_blocks: _Optional[int] = ..., has_vision: bool = ..., epoch: _Optional[str] = ..., device: _Optional[str] = ..., max_waiting_tokens: _Optional[int] = ...) -> None: ...

class GetLoadRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLoadResponse(_message.Message):
    __slots__ = ("load",)
    LOAD_FIELD_NUMBER: _ClassVar[int]
    load: Load
    def __init__(self, load: _Optional[_Union[Load, _Mapping]] = ...) -> None: ...
