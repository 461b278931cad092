"""The tokenizer service's configuration and the bounds on requests."""

from dataclasses import dataclass

from tandem_service.flags import check_at_least, flag
from tandem_service.model_dir import last_part
from tandem_service.server_config import ServerConfig
from tandem_service.tls import ChannelTls


@dataclass(frozen=True)
class TokenizerServiceConfig(ServerConfig):
    """Flags of `python -m tokenizer_service`; every default is written here only."""

    listen: str = flag("127.0.0.1:50051", "Address to listen on: HOST:PORT or unix:PATH.")
    engine: str = flag("127.0.0.1:50052", "Address of the engine service: HOST:PORT or unix:PATH.")
    engine_tls_ca: str = flag(
        "", "PEM file of the roots of the engine's certificate; empty speaks plain text."
    )
    engine_tls_cert: str = flag("", "PEM file of the certificate that this service shows the engine.")
    engine_tls_key: str = flag("", "PEM file of that certificate's private key.")
    engine_tls_name: str = flag("", "Name in the engine's certificate; empty for that of --engine.")
    engine_token_file: str = flag("", "File with the token that this service shows the engine.")
    model: str = flag("demo", "Model directory, Hugging Face hub id, or one that ships: demo, demo-pictures.")
    model_name: str = flag("", "Name that clients know the model by; empty for the last part of --model.")
    workers: int = flag(1, "Processes that share the port.", unit="processes")
    is_worker: bool = flag(False, "Whether --workers started this process, which then shares the port.")
    template_timeout_s: float = flag(2.0, "Time that a chat template may take.", unit="seconds")
    encode_threads: int = flag(2, "Threads that encode long prompts.", unit="threads")
    max_request_bytes: int = flag(16 * 1024 * 1024, "Largest request message.", unit="bytes")
    max_images: int = flag(16, "Images of one request.", unit="images")
    max_image_bytes: int = flag(10 * 1024 * 1024, "Largest image file.", unit="bytes")
    max_image_pixels: int = flag(
        32 * 1024 * 1024, "Largest image, width times height; checked before decoding.", unit="pixels"
    )
    max_image_side: int = flag(32 * 1024, "Longest side of an image.", unit="pixels")
    image_threads: int = flag(
        2, "Threads that decode and resize images; above 1, as many others help to resize.", unit="threads"
    )
    image_cache_bytes: int = flag(
        256 * 1024 * 1024, "Preprocessed images that one worker keeps, to be named by hash.", unit="bytes"
    )
    image_memory_bytes: int = flag(
        1024 * 1024 * 1024,
        "Files that wait and preprocessed images of running requests and by hash, of one worker.",
        unit="bytes",
    )
    max_requests: int = flag(4096, "Requests that one worker runs at once.", unit="requests")
    max_requests_per_stream: int = flag(
        1024, "Requests that one GenerateMany stream runs at once.", unit="requests"
    )
    max_linger_s: float = flag(300.0, "Longest linger of a request without a reader.", unit="seconds")
    max_lingering: int = flag(
        256, "Requests with linger that one worker runs or keeps at once.", unit="requests"
    )
    max_stop_strings: int = flag(64, "Stop strings of one request.", unit="strings")
    max_stop_string_chars: int = flag(256, "Length of one stop string.", unit="characters")
    max_stop_token_ids: int = flag(64, "Stop token ids of one request.", unit="ids")
    engine_timeout_s: float = flag(
        30.0, "Time that a request waits for a lost engine to come back.", unit="seconds"
    )
    default_temperature: float | None = flag(None, "Temperature of requests without one.")
    default_top_p: float | None = flag(None, "top_p of requests without one.")
    default_top_k: int | None = flag(None, "top_k of requests without one.", unit="tokens")
    default_min_p: float | None = flag(None, "min_p of requests without one.")
    default_repetition_penalty: float | None = flag(None, "Repetition penalty of requests without one.")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, *_AT_LEAST_ONE)
        check_at_least(self, 0, *_AT_LEAST_ZERO)
        for name in ("listen", "engine", "model"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty")
        if self.workers > 1:
            self._require_shareable_port()
        _ = self.engine_tls

    @property
    def engine_tls(self) -> ChannelTls:
        """The certificates of the channel to the engine."""
        return ChannelTls(self.engine_tls_ca, self.engine_tls_cert, self.engine_tls_key, self.engine_tls_name)

    @property
    def served_name(self) -> str:
        """The model's name for clients."""
        return self.model_name or last_part(self.model)

    def _require_shareable_port(self) -> None:
        port = self.listen.rpartition(":")[2]
        if self.listen.startswith("unix:") or not port.isdigit() or int(port) == 0:
            raise ValueError(
                f"workers={self.workers} needs a TCP port that they can share, not listen={self.listen!r}"
            )


_AT_LEAST_ONE = (
    "workers", "encode_threads", "max_request_bytes", "max_requests", "max_requests_per_stream",
    "max_stop_string_chars", "max_image_bytes", "max_image_pixels", "max_image_side", "image_threads",
    "image_memory_bytes",
)  # fmt: skip
_AT_LEAST_ZERO = (
    "max_stop_strings", "max_stop_token_ids", "max_images", "image_cache_bytes", "max_linger_s",
    "max_lingering", "engine_timeout_s", "template_timeout_s",
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """The bounds on one request.

    Attributes:
        max_stop_strings: Stop strings.
        max_stop_string_chars: Characters of one stop string.
        max_stop_token_ids: Stop token ids.
        max_request_bytes: Bytes of the message.
        max_images: Images.
        max_n: Answers to one prompt.
        max_logprobs: Candidates of one log-probability entry.
        max_logit_bias: Entries of logit_bias.
        max_request_id_chars: Characters of a request's id.
        max_linger_s: Seconds that a request lingers.
    """

    max_stop_strings: int
    max_stop_string_chars: int
    max_stop_token_ids: int
    max_request_bytes: int
    max_images: int = 0
    max_n: int = 64
    max_logprobs: int = 20
    max_logit_bias: int = 300
    max_request_id_chars: int = 256
    max_linger_s: float = 0.0


def limits_of(config: TokenizerServiceConfig) -> Limits:
    """The bounds that a configuration sets."""
    return Limits(
        max_stop_strings=config.max_stop_strings,
        max_stop_string_chars=config.max_stop_string_chars,
        max_stop_token_ids=config.max_stop_token_ids,
        max_request_bytes=config.max_request_bytes,
        max_images=config.max_images,
        max_linger_s=config.max_linger_s,
    )
