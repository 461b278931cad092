"""A model's tokenizer: text to token ids, and what the ids mean."""

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend
from transformers import AutoTokenizer

from tandem_service.model_dir import Fingerprint, eos_token_ids, read_json, tokenizer_sha256
from tokenizer_service.token_table import TokenTable, build_token_table

FILES = ("*.json", "*.jinja")
"""The files of a model directory that the tokenizer service reads."""
NEEDED = ("config.json", "tokenizer.json")
"""Those among them that every model has."""

# Texts up to here take less time to encode (about 0.5 ms) than is worth a thread's wake-up.
_INLINE_CHARS = 2_000


class Tokenizer:
    """Encodes text. Long texts are encoded by other threads, which hold no interpreter lock meanwhile.

    Attributes:
        source: The transformers tokenizer; it renders chats.
        table: What the token ids mean.
        fingerprint: What must agree with the engine's weights.
    """

    def __init__(self, source: Any, backend: Backend, fingerprint: Fingerprint, num_threads: int) -> None:
        """`source` is a transformers tokenizer around `backend`."""
        self.source = source
        self.table: TokenTable = build_token_table(backend)
        self.fingerprint = fingerprint
        self._backend = backend
        self._threads: Executor = ThreadPoolExecutor(num_threads, thread_name_prefix="encode")

    async def encode(self, text: str, *, add_special_tokens: bool) -> tuple[int, ...]:
        """The token ids of a text.

        Args:
            text: The text.
            add_special_tokens: Whether the tokenizer adds those that begin or end a text.
        """
        if len(text) <= _INLINE_CHARS:
            return self._encode(text, add_special_tokens)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._encode, text, add_special_tokens)

    def _encode(self, text: str, add_special_tokens: bool) -> tuple[int, ...]:
        # Of a batch, even of one: `encode` holds the interpreter lock all the time (tokenizers 0.23), for
        # 4 MiB of text 4 seconds.
        (encoding,) = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
        return tuple(encoding.ids)


def load_tokenizer(directory: Path, num_threads: int) -> Tokenizer:
    """Loads the tokenizer of a model directory.

    Raises:
        ValueError: There is no fast tokenizer, or it is of a kind that is not supported.
    """
    path = directory / "tokenizer.json"
    if not path.exists():
        raise ValueError(f"{path} is missing; a fast tokenizer is needed")
    read_json(path)
    try:
        source = AutoTokenizer.from_pretrained(str(directory), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ValueError(f"{directory}: the tokenizer cannot be loaded: {error}") from None
    backend = getattr(source, "backend_tokenizer", None)
    if backend is None:
        raise ValueError(f"{directory}: {type(source).__name__} is a slow tokenizer; a fast one is needed")
    source.chat_template = source.chat_template or _processors_template(directory)
    backend.no_truncation()
    backend.no_padding()
    fingerprint = Fingerprint(
        vocab_size=backend.get_vocab_size(with_added_tokens=True),
        eos_token_ids=eos_token_ids(directory),
        tokenizer_sha256=tokenizer_sha256(directory),
    )
    return Tokenizer(source, backend, fingerprint, num_threads)


def _processors_template(directory: Path) -> str | None:
    """The chat template of a model whose processor has it instead of its tokenizer: where it once stood."""
    for name in ("chat_template.json", "processor_config.json"):
        template = read_json(directory / name).get("chat_template")
        if isinstance(template, str):
            return template
    return None
