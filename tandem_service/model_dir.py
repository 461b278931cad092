"""A model's directory: where it is, and what both services must read alike from it."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEMO, PICTURE_DEMO = "demo", "demo-pictures"


@dataclass(frozen=True)
class Fingerprint:
    """What must agree between a tokenizer and the weights.

    Attributes:
        vocab_size: The number of token ids.
        eos_token_ids: The end-of-sequence ids, ascending.
        tokenizer_sha256: SHA-256 of tokenizer.json; empty where there is no such file.
    """

    vocab_size: int
    eos_token_ids: tuple[int, ...]
    tokenizer_sha256: bytes


def resolve(model: str, patterns: tuple[str, ...], needed: tuple[str, ...]) -> Path:
    """Finds the directory of a model.

    Args:
        model: A directory, a Hugging Face hub id such as `meta-llama/Llama-3.2-1B`, or `demo` or
            `demo-pictures` for the models that ship with Tandem. A hub id is looked up in the local cache
            first.
        patterns: The files to download if the hub must be asked.
        needed: Those among them that the cache must have; the other service may have fetched only its own.

    Raises:
        ValueError: There is no such directory, and no such hub id can be had.
    """
    if model in (DEMO, PICTURE_DEMO):
        from tandem_demo import MODEL_DIR, PICTURE_MODEL_DIR

        return MODEL_DIR if model == DEMO else PICTURE_MODEL_DIR
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    return _from_hub(model, patterns, needed)


def last_part(model: str) -> str:
    """The name that a model has where it was given none: the last part of its path or hub id."""
    return model.rstrip("/").rpartition("/")[2] or model


def _from_hub(model: str, patterns: tuple[str, ...], needed: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(model, local_files_only=True))
        if not _missing(cached, needed):
            return cached
    except HFValidationError:
        raise ValueError(f"model={model!r} is neither a directory nor a hub id") from None
    except LocalEntryNotFoundError:
        pass
    try:
        directory = Path(snapshot_download(model, allow_patterns=list(patterns)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"model={model!r} is no directory, and the hub could not be asked for it: {reason}"
        ) from None
    # Where the hub does not answer, the library gives what it has.
    if missing := _missing(directory, needed):
        raise ValueError(f"model={model!r}: neither the local cache nor the hub has its {', '.join(missing)}")
    return directory


def _missing(directory: Path, needed: tuple[str, ...]) -> list[str]:
    return [pattern for pattern in needed if not any(directory.glob(pattern))]


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is no such file.

    Raises:
        ValueError: The file does not hold a JSON object.
    """
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: holds a {type(value).__name__}, not an object")
    return value


def eos_token_ids(directory: Path) -> tuple[int, ...]:
    """The end-of-sequence ids of a model: of generation_config.json, else of config.json, where a model with
    vision may have them in its `text_config`; ascending.
    """
    config = read_json(directory / "config.json")
    for raw in (read_json(directory / "generation_config.json"), config, config.get("text_config") or {}):
        value = raw.get("eos_token_id")
        if value is not None:
            return tuple(sorted({value} if isinstance(value, int) else set(value)))
    return ()


def tokenizer_sha256(directory: Path) -> bytes:
    """SHA-256 of tokenizer.json; empty if there is no such file."""
    path = directory / "tokenizer.json"
    return hashlib.sha256(path.read_bytes()).digest() if path.exists() else b""
