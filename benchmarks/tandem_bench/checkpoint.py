"""Checkpoints with random weights, in the Hugging Face format."""

import json
import re
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from tqdm import tqdm

from tandem_bench.shape import Shape
from tandem_bench.stand_in_tokenizer import write_tokenizer

WEIGHT_STD = 0.02
MAX_SHARD_BYTES = 5 << 30
DTYPE = torch.bfloat16
# Near 1; layers of CLIP number their norms.
NORM_WEIGHT = re.compile(r"norm\d?\.weight$")


def checkpoint(shape: Shape, root: Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> Path:
    """The directory of a shape's checkpoint below `root`; written if it is not there yet.

    It holds config.json and what else the shape has, bfloat16 weights in safetensors files and a stand-in
    tokenizer.

    Args:
        shape: The shape.
        root: Holds one directory for each shape.
        max_shard_bytes: The most bytes of one file.
    """
    directory = root / shape.name
    files = {name: json.dumps(content, indent=2) + "\n" for name, content in shape.files().items()}
    if all(_has(directory / name, text) for name, text in files.items()):
        return directory
    # Made beside its place: what was broken off is not taken for a checkpoint.
    partial = root / f"{shape.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, text in files.items():
        (partial / name).write_text(text)
    write_tokenizer(shape, partial)
    _write_weights(shape, partial, max_shard_bytes)
    shutil.rmtree(directory, ignore_errors=True)
    return partial.rename(directory)


def num_weight_bytes(directory: Path) -> int:
    """Bytes of a checkpoint's weight files."""
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def _has(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def _write_weights(shape: Shape, directory: Path, max_shard_bytes: int) -> None:
    shards = _shards(shape.tensors(), max_shard_bytes)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator = torch.Generator(device).manual_seed(0)
    weight_map: dict[str, str] = {}
    total = sum(_num_bytes(each) for each in shape.tensors().values())
    with tqdm(total=total, desc=f"writing {shape.name}", unit="B", unit_scale=True) as bar:
        for number, shard in enumerate(shards, 1):
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
            tensors = {}
            for key, size in shard.items():
                tensors[key] = _random(key, size, generator)
                bar.update(_num_bytes(size))
            save_file(tensors, directory / name, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(shard, name)
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _shards(tensors: dict[str, tuple[int, ...]], max_bytes: int) -> list[dict[str, tuple[int, ...]]]:
    """The tensors of each file; a tensor that is larger than a file has one to itself."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, size in tensors.items():
        if shards[-1] and filled + _num_bytes(size) > max_bytes:
            shards.append({})
            filled = 0
        shards[-1][name] = size
        filled += _num_bytes(size)
    return shards


def _random(name: str, size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    tensor = torch.empty(size, dtype=DTYPE, device=generator.device)
    if NORM_WEIGHT.search(name):
        return tensor.uniform_(0.9, 1.1, generator=generator).cpu()
    return tensor.normal_(0.0, WEIGHT_STD, generator=generator).cpu()


def _num_bytes(size: tuple[int, ...]) -> int:
    return torch.Size(size).numel() * DTYPE.itemsize
