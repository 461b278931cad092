"""The engine service's configuration; every default stands here once."""

from dataclasses import dataclass

from tandem_service.flags import check_at_least, flag
from tandem_service.server_config import ServerConfig


@dataclass(frozen=True)
class EngineConfig(ServerConfig):
    """The flags of `python -m engine_service`.

    Raises:
        ValueError: A value is out of its bounds.
    """

    model: str = flag("demo", "model directory, Hugging Face hub id, or one that ships: demo, demo-pictures")
    model_name: str = flag(
        "", "name of the model for clients; empty takes the last part of --model", unit="name"
    )
    listen: str = flag("127.0.0.1:50052", "address to listen on, HOST:PORT or unix:PATH", unit="address")
    device: str = flag(
        "auto",
        "device for weights and KV cache; auto is the GPU where there is one",
        choices=("auto", "cpu", "cuda"),
    )
    dtype: str = flag(
        "auto",
        "type of weights and KV cache; auto is float32 on a CPU, and on a GPU the checkpoint's or bfloat16",
        choices=("auto", "float32", "float16", "bfloat16"),
    )
    context_length: int = flag(
        0, "most tokens of prompt and answer together; 0 takes the model's", unit="tokens"
    )
    max_num_seqs: int = flag(256, "sequences that run at once", unit="sequences")
    max_num_waiting: int = flag(
        4096, "sequences that may wait beside those that run; more are refused", unit="sequences"
    )
    max_waiting_tokens: int = flag(
        4 * 1024 * 1024, "prompt tokens of sequences that may wait; more are refused", unit="tokens"
    )
    max_client_share: float = flag(
        1.0, "part of both queue bounds that one client's sequences may take", unit="parts of 1"
    )
    max_prefill_tokens: int = flag(2048, "most prompt tokens computed in one step", unit="tokens")
    kv_block_size: int = flag(16, "slots of one block of the KV cache", unit="tokens")
    kv_cache_mib: int = flag(
        0, "memory of the KV cache; 0 takes 1024 on a CPU, and what is left on a GPU", unit="MiB"
    )
    gpu_memory_utilization: float = flag(
        0.9,
        "share of the GPU's memory for weights, KV cache, graphs and workspace together",
        unit="parts of 1",
    )
    eager: bool = flag(False, "run without CUDA graphs")
    num_blocks: int = flag(0, "blocks of the KV cache; 0 takes what kv-cache-mib holds", unit="blocks")
    image_cache_mib: int = flag(
        512, "memory on the device of images' features, for a model with vision", unit="MiB"
    )
    image_pixels_mib: int = flag(
        256, "memory on the host of images' pixels; more images at once are refused", unit="MiB"
    )
    prefix_caching: bool = flag(True, "reuse the KV cache of equal prompt beginnings")
    num_threads: int = flag(
        0, "CPU threads of the model; 0: half of the cores, beside a GPU one", unit="threads"
    )
    max_message_mib: int = flag(64, "largest message taken from a client", unit="MiB")
    heartbeat_timeout_s: float = flag(
        0.0,
        "time without a word from the core, after which it is killed and started again; longer than the "
        "longest step; 0 takes 30, or 300 on a CPU, where a long prompt's step may take minutes",
        unit="seconds",
    )
    fake: bool = flag(False, "answer without weights: repeat the prompt at a set rate")
    fake_rate: float = flag(
        50.0, "rate of each sequence with --fake; 0 is as fast as possible", unit="tokens per second"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(self, 1, *_AT_LEAST_ONE)
        check_at_least(self, 0, *_AT_LEAST_ZERO)
        if 0 < self.heartbeat_timeout_s < _MIN_HEARTBEAT_S:
            raise ValueError(
                f"heartbeat_timeout_s={self.heartbeat_timeout_s}: must be 0 or at least {_MIN_HEARTBEAT_S}"
            )
        for name in ("gpu_memory_utilization", "max_client_share"):
            if not 0 < (share := getattr(self, name)) <= 1:
                raise ValueError(f"{name}={share}: must be in (0, 1]")


# An idle core says something every half second.
_MIN_HEARTBEAT_S = 1.0
_AT_LEAST_ONE = (
    "max_num_seqs", "max_waiting_tokens", "max_prefill_tokens", "kv_block_size", "max_message_mib",
)  # fmt: skip
_AT_LEAST_ZERO = (
    "context_length", "max_num_waiting", "image_cache_mib", "image_pixels_mib",
    "kv_cache_mib", "num_blocks", "num_threads", "heartbeat_timeout_s", "fake_rate",
)  # fmt: skip
