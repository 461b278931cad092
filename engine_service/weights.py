"""Weights from Hugging Face safetensors files into a model's fused parameters."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from tqdm import tqdm

TIED_HEAD = "lm_head.weight"
# Buffers of old checkpoints that are computed here.
IGNORED_SUFFIX = ".rotary_emb.inv_freq"
# Readers of files and copies to the device, so that the disk has several requests at once.
NUM_THREADS = 8


def load_weights(
    directory: Path,
    tensors: dict[str, torch.Tensor],
    *,
    is_tied: bool,
    rename: Callable[[str], str | None] = str,
    show_progress: bool = True,
) -> None:
    """Fills every tensor from the checkpoint, converting its type.

    Args:
        directory: Holds model.safetensors, or model.safetensors.index.json and the files it names.
        tensors: Where each tensor of the checkpoint goes, by its name there.
        rename: Turns a name in the checkpoint into one of `tensors`; None skips the tensor.
        is_tied: Whether the output head is the embedding, so that the checkpoint need not have it.
        show_progress: Whether a bar is drawn on standard error.

    Raises:
        ValueError: Files are missing or broken, or tensors are missing, left over or of another shape;
            the message names them.
    """
    wanted = {name: tensor for name, tensor in tensors.items() if not (is_tied and name == TIED_HEAD)}
    missing = set(wanted)
    is_gpu = any(tensor.is_cuda for tensor in wanted.values())
    num_bytes = sum(tensor.nbytes for tensor in wanted.values())
    unit = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
    with (
        tqdm(total=num_bytes, desc="loading weights", disable=not show_progress, **unit) as bar,  # type: ignore[call-overload]
        ThreadPoolExecutor(NUM_THREADS, initializer=_use_own_stream if is_gpu else None) as pool,
    ):
        copies = []
        for path, stored_name, loaded in _read_all(directory):
            name = rename(stored_name)
            if stored_name.endswith(IGNORED_SUFFIX) or name is None or (is_tied and name == TIED_HEAD):
                continue
            if name not in wanted:
                raise ValueError(f"{path}: tensor {stored_name} does not belong to this architecture")
            _check(path, stored_name, loaded, wanted[name])
            copies.append(pool.submit(_copy, loaded, wanted[name]))
            missing.discard(name)
        for copy in as_completed(copies):
            bar.update(copy.result())
    if missing:
        raise ValueError(f"{directory}: {len(missing)} tensors are missing: {_some(missing)}")


def _read_all(directory: Path) -> Iterator[tuple[Path, str, torch.Tensor]]:
    for path in _files(directory):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (the file is no mapping)
                    yield path, name, file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{path}: cannot be read: {error}") from None


def _files(directory: Path) -> list[Path]:
    index = directory / "model.safetensors.index.json"
    single = directory / "model.safetensors"
    if index.exists():
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        return [directory / name for name in names]
    if single.exists():
        return [single]
    raise ValueError(f"{directory}: has neither {single.name} nor {index.name}")


def _check(path: Path, name: str, loaded: torch.Tensor, destination: torch.Tensor) -> None:
    if loaded.shape != destination.shape:
        shapes = f"{list(loaded.shape)}; config.json asks for {list(destination.shape)}"
        raise ValueError(f"{path}: tensor {name} has shape {shapes}")
    if not loaded.is_floating_point():
        raise ValueError(f"{path}: tensor {name} has type {loaded.dtype}, not a float type")


@torch.inference_mode()
def _copy(loaded: torch.Tensor, destination: torch.Tensor) -> int:
    """Copies, by which the file is read, and returns the bytes."""
    destination.copy_(loaded)
    return destination.nbytes


def _use_own_stream() -> None:
    torch.cuda.set_stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]


def _some(names: set[str]) -> str:
    shown = sorted(names)[:3]
    return ", ".join(shown) + (" …" if len(names) > len(shown) else "")
