"""Random checkpoints of the benchmarks: they load wherever they are used."""

import json

import torch
import transformers

from engine_service.model_config import read_model_config
from engine_service.models.decoder import Decoder
from engine_service.weights import load_weights
from tandem_bench.checkpoint import checkpoint, num_weight_bytes
from tandem_bench.shapes import SHAPES
from tokenizer_service.tokenizer import load_tokenizer

TINY = SHAPES["tiny"]


def test_every_shape_is_one_that_the_engine_and_transformers_know(tmp_path):
    for shape in SHAPES.values():
        (tmp_path / "config.json").write_text(json.dumps(shape.config()))
        with torch.device("meta"):
            config = transformers.AutoConfig.from_pretrained(tmp_path)
            theirs = transformers.AutoModelForCausalLM.from_config(config).state_dict()
        expected = {name: tuple(tensor.shape) for name, tensor in theirs.items()}
        if shape.is_tied:
            del expected["lm_head.weight"]
        assert shape.tensors() == expected, shape.name
        assert read_model_config(tmp_path).context_length == shape.context_length


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


def test_the_stand_in_tokenizer_fits_the_shape(tmp_path):
    tokenizer = load_tokenizer(checkpoint(TINY, tmp_path), 1)
    assert tokenizer.fingerprint.vocab_size == TINY.vocab_size
    assert tokenizer.fingerprint.eos_token_ids == (TINY.eos_token_id,)
    text = "naïve café"
    ids = tokenizer.source.encode(text)
    assert tokenizer.source.decode(ids) == text
    assert tokenizer.table.texts[300].strip().isalpha()
