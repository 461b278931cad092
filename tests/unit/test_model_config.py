"""config.json in its old and new spellings, and what is refused."""

import json

import pytest

from engine_service.model_config import RopeScaling, read_model_config

BASE = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}


def _read(tmp_path, **changes):
    raw = {key: value for key, value in (BASE | changes).items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    return read_model_config(tmp_path)


def test_absent_fields_take_the_meaning_they_have_in_transformers(tmp_path):
    config = _read(tmp_path)
    assert (config.num_kv_heads, config.head_dim, config.rope_theta) == (4, 16, 10000.0)
    assert (config.is_tied, config.dtype, config.rope_scaling) == (False, "float32", None)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3"} | LLAMA3}, id="old"),
        pytest.param({"rope_theta": 5e5, "rope_scaling": {"type": "llama3"} | LLAMA3}, id="older"),
        pytest.param({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5} | LLAMA3}, id="new"),
    ],
)
def test_rope_is_read_in_every_spelling(tmp_path, changes):
    config = _read(tmp_path, **changes)
    assert config.rope_theta == 5e5
    assert config.rope_scaling == RopeScaling(8.0, 1.0, 4.0, 128)


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_the_type_of_weights_is_read_in_both_spellings(tmp_path, name):
    assert _read(tmp_path, **{name: "bfloat16"}).dtype == "bfloat16"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"sliding_window": None}, id="none"),
        pytest.param({"sliding_window": 512}, id="as-long-as-the-context"),
        pytest.param({"sliding_window": 128, "use_sliding_window": False}, id="switched-off"),
        pytest.param({"layer_types": ["full_attention"] * 2}, id="full-attention"),
    ],
)
def test_a_sliding_window_that_is_not_in_use_is_served(tmp_path, changes):
    assert _read(tmp_path, **changes).context_length == 512


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"architectures": ["GPT2LMHeadModel"]}, "architectures=.*GPT2LMHeadModel", id="architecture"
        ),
        pytest.param({"architectures": ...}, r"architectures=\[\]", id="no-architecture"),
        pytest.param({"rope_scaling": {"type": "yarn"}}, "rope_type='yarn'", id="rope"),
        pytest.param({"rope_parameters": {"rope_type": "linear"}}, "rope_type='linear'", id="rope-new"),
        pytest.param({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5", id="partial-rotary"),
        pytest.param({"sliding_window": 511}, "sliding_window=511", id="window-one-below-context"),
        pytest.param(
            {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types", id="layer-types"
        ),
        pytest.param(
            {"quantization_config": {"quant_method": "awq"}}, "quantization_config.*'awq'", id="awq"
        ),
        pytest.param({"hidden_act": "gelu"}, "hidden_act='gelu'", id="activation"),
        pytest.param({"attention_bias": True}, "attention_bias=true", id="attention-bias"),
        pytest.param({"mlp_bias": True}, "mlp_bias=true", id="mlp-bias"),
        pytest.param({"num_key_value_heads": 3}, "num_key_value_heads=3.*num_attention_heads=4", id="groups"),
        pytest.param({"head_dim": 15}, "head_dim=15", id="odd-head"),
        pytest.param({"vocab_size": ...}, "vocab_size is missing", id="missing-field"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line_that_names_the_field(tmp_path, changes, words):
    with pytest.raises(ValueError, match=words) as error:
        _read(tmp_path, **changes)
    assert "config.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_directory_without_config_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json: no such file"):
        read_model_config(tmp_path)
