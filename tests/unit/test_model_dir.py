"""Where a model's directory is: a path, the demo, the hub's cache, or a clear refusal."""

import json
import os
import subprocess
import sys

import pytest

from tandem_demo import MODEL_DIR, PICTURE_MODEL_DIR
from tandem_service.model_dir import eos_token_ids, last_part, read_json, resolve, tokenizer_sha256


def test_a_directory_is_itself_and_the_demos_are_the_models_that_ship(tmp_path):
    assert resolve(str(tmp_path), (), ()) == tmp_path
    assert resolve("demo", (), ()) == MODEL_DIR
    assert resolve("demo-pictures", (), ()) == PICTURE_MODEL_DIR


def _resolve_offline(model, cache):
    """In a process of its own, since huggingface_hub reads its settings once."""
    code = f"from tandem_service.model_dir import resolve; print(resolve({model!r}, (), ('*.json',)))"
    environment = os.environ | {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def _cached_snapshot(cache, *files):
    snapshot = cache / "models--org--small" / "snapshots" / "abc123"
    snapshot.mkdir(parents=True)
    for file in files:
        (snapshot / file).write_text("{}")
    refs = cache / "models--org--small" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc123")
    return snapshot


def test_a_hub_id_is_found_in_the_local_cache_without_the_network(tmp_path):
    snapshot = _cached_snapshot(tmp_path, "config.json")
    result = _resolve_offline("org/small", tmp_path)
    assert result.stdout.strip() == str(snapshot), result.stderr


def test_a_cache_without_the_needed_files_is_not_taken_for_the_model(tmp_path):
    _cached_snapshot(tmp_path, "README.md")
    result = _resolve_offline("org/small", tmp_path)
    assert result.stdout == ""
    assert "neither the local cache nor the hub has its *.json" in result.stderr


def test_a_hub_id_that_cannot_be_had_is_refused_in_one_line(tmp_path):
    result = _resolve_offline("org/absent", tmp_path)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: model='org/absent' is no directory, and the hub could not be asked")


@pytest.mark.parametrize("model", ["/no/such/directory", "a b", "too/many/parts"])
def test_what_is_neither_a_directory_nor_a_hub_id_is_refused(model):
    with pytest.raises(ValueError, match="is neither a directory nor a hub id"):
        resolve(model, (), ())


@pytest.mark.parametrize(
    ("model", "name"), [("org/small", "small"), ("/models/big/", "big"), ("demo", "demo"), ("/", "/")]
)
def test_a_model_is_called_by_the_last_part_of_its_path(model, name):
    assert last_part(model) == name


@pytest.mark.parametrize(
    ("generation", "config", "expected"),
    [
        pytest.param({"eos_token_id": [9, 3]}, {"eos_token_id": 1}, (3, 9), id="generation-config-first"),
        pytest.param({}, {"eos_token_id": 1}, (1,), id="config"),
        pytest.param(None, {"text_config": {"eos_token_id": 2}}, (2,), id="text-config"),
        pytest.param(None, {"eos_token_id": None}, (), id="none"),
    ],
)
def test_eos_ids_come_from_the_generation_config_then_from_the_config(tmp_path, generation, config, expected):
    (tmp_path / "config.json").write_text(json.dumps(config))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert eos_token_ids(tmp_path) == expected


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"], ids=["cut", "list", "latin1"])
def test_a_file_that_is_no_json_object_is_refused_by_name(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"config\.json"):
        read_json(path)


def test_a_directory_without_a_tokenizer_has_no_hash(tmp_path):
    assert tokenizer_sha256(tmp_path) == b""
    (tmp_path / "tokenizer.json").write_text("{}")
    assert len(tokenizer_sha256(tmp_path)) == 32
