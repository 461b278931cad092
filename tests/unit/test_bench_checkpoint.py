"""Random checkpoints of the benchmarks: they load wherever they are used."""

import json

import pytest
import torch
import transformers

from engine_service.model_config import read_model_config
from engine_service.models.decoder import Decoder
from engine_service.models.llava import Llava
from engine_service.weights import load_weights
from tandem_bench.checkpoint import checkpoint, num_weight_bytes
from tandem_bench.llava_shape import LlavaShape
from tandem_bench.shapes import SHAPES
from tokenizer_service.image_config import load_image_config
from tokenizer_service.tokenizer import load_tokenizer

TINY, TINY_LLAVA = SHAPES["tiny"], SHAPES["tiny-llava"]
SEEING = {name: shape for name, shape in SHAPES.items() if isinstance(shape, LlavaShape)}


def test_every_shape_is_one_that_the_engine_and_transformers_know(tmp_path):
    for shape in (SHAPES[name] for name in SHAPES if name not in SEEING):
        (tmp_path / "config.json").write_text(json.dumps(shape.config()))
        with torch.device("meta"):
            config = transformers.AutoConfig.from_pretrained(tmp_path)
            theirs = transformers.AutoModelForCausalLM.from_config(config).state_dict()
        expected = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
        if shape.is_tied:
            del expected["lm_head.weight"]
        assert shape.tensors() == expected, shape.name
        assert read_model_config(tmp_path).context_length == shape.context_length


@pytest.mark.parametrize("name", SEEING)
def test_every_seeing_shape_is_one_that_both_services_and_transformers_know(tmp_path, name):
    shape = SEEING[name]
    for file, content in shape.files().items():
        (tmp_path / file).write_text(json.dumps(content))
    with torch.device("meta"):
        config = transformers.AutoConfig.from_pretrained(tmp_path)
        theirs = transformers.AutoModelForImageTextToText.from_config(config).state_dict()
    # Modules of transformers have other names than tensors of published checkpoints.
    assert sorted(shape.tensors().values()) == sorted(tuple(tensor.shape) for tensor in theirs.values())
    ours = Llava(read_model_config(tmp_path), torch.device("meta"), 1)
    named = {ours.checkpoint_name(stored): size for stored, size in shape.tensors().items()}
    named.pop(None)
    assert named == {each: tuple(tensor.shape) for each, tensor in ours.checkpoint_tensors().items()}
    images = load_image_config(tmp_path)
    assert (images.token_id, images.num_tokens) == (shape.image_token_id, shape.tower.num_patches)
    side = shape.tower.image_size
    assert images.processor.size == (side, side)


def test_a_seeing_checkpoint_loads_in_both(tmp_path):
    directory = checkpoint(TINY_LLAVA, tmp_path)
    theirs, notes = transformers.AutoModelForImageTextToText.from_pretrained(
        directory, output_loading_info=True
    )
    assert not any(notes.values()), notes
    ours = Llava(read_model_config(directory), torch.device("cpu"), 1)
    tensors = ours.checkpoint_tensors()
    load_weights(directory, tensors, is_tied=False, rename=ours.checkpoint_name, show_progress=False)
    layer = "vision_tower.encoder.layers.1"
    assert tensors[f"{layer}.layer_norm2.weight"].sub(1).abs().max() < 0.11
    assert tensors[f"{layer}.layer_norm2.bias"].abs().max() < 0.1
    sums = {float(each.float().sum()) for each in theirs.state_dict().values()}
    assert all(float(each.sum()) in sums for each in tensors.values())


def test_a_checkpoint_in_shards_loads_in_both(tmp_path):
    directory = checkpoint(TINY, tmp_path, max_shard_bytes=70_000)
    assert len(list(directory.glob("*.safetensors"))) > 2
    assert num_weight_bytes(directory) > 2 * sum(torch.Size(each).numel() for each in TINY.tensors().values())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(directory).state_dict()
    ours = Decoder(read_model_config(directory), torch.device("cpu"))
    tensors = ours.checkpoint_tensors()
    load_weights(directory, tensors, is_tied=True, show_progress=False)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, theirs[name].float()), name


def test_a_checkpoint_is_written_once_and_anew_when_its_shape_changes(tmp_path):
    first = checkpoint(TINY, tmp_path)
    weights = first / "model-00001-of-00001.safetensors"
    written_ns = weights.stat().st_mtime_ns
    assert checkpoint(TINY, tmp_path) == first
    assert weights.stat().st_mtime_ns == written_ns
    (first / "config.json").write_text("{}")
    checkpoint(TINY, tmp_path)
    assert weights.stat().st_mtime_ns != written_ns


@pytest.mark.parametrize("shape", [TINY, TINY_LLAVA], ids=lambda shape: shape.name)
def test_the_stand_in_tokenizer_fits_the_shape(tmp_path, shape):
    tokenizer = load_tokenizer(checkpoint(shape, tmp_path), 1)
    assert tokenizer.fingerprint.vocab_size == shape.vocab_size
    assert tokenizer.fingerprint.eos_token_ids == (shape.eos_token_id,)
    for index, name in shape.special_tokens.items():
        assert tokenizer.source.encode(name) == [index]
    text = "naïve café"
    ids = tokenizer.source.encode(text)
    assert len(ids) == len(text.encode())
    assert tokenizer.source.decode(ids) == text
    assert tokenizer.table.texts[300].strip().isalpha()
