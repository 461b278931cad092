"""A LLaVA config.json in its old and new spellings, and what is refused."""

import json

import pytest

from engine_service.model_config import num_image_slots, read_model_config

# llava-hf/llava-1.5-7b-hf as it is on the hub: most of text_config is left to the defaults.
HUB = {
    "architectures": ["LlavaForConditionalGeneration"],
    "ignore_index": -100,
    "image_token_index": 32000,
    "model_type": "llava",
    "pad_token_id": 32001,
    "projector_hidden_act": "gelu",
    "text_config": {
        "_name_or_path": "lmsys/vicuna-7b-v1.5",
        "architectures": ["LlamaForCausalLM"],
        "max_position_embeddings": 4096,
        "model_type": "llama",
        "rms_norm_eps": 1e-05,
        "torch_dtype": "float16",
        "vocab_size": 32064,
    },
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "vision_config": {
        "hidden_size": 1024,
        "image_size": 336,
        "intermediate_size": 4096,
        "model_type": "clip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
        "projection_dim": 768,
        "vocab_size": 32000,
    },
    "vision_feature_layer": -2,
    "vision_feature_select_strategy": "default",
}


def _read(tmp_path, text=(), vision=(), **changes):
    raw = HUB | changes
    raw["text_config"] = HUB["text_config"] | dict(text)
    if "vision_config" not in changes:
        raw["vision_config"] = HUB["vision_config"] | dict(vision)
    raw = {key: value for key, value in raw.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    return read_model_config(tmp_path)


def test_the_hub_s_config_is_llava_7b(tmp_path):
    config = _read(tmp_path)
    assert config.architecture == "LlavaForConditionalGeneration"
    assert (config.hidden_size, config.intermediate_size, config.num_layers) == (4096, 11008, 32)
    assert (config.num_heads, config.num_kv_heads, config.head_dim) == (32, 32, 128)
    assert (config.vocab_size, config.context_length, config.dtype) == (32064, 4096, "float16")
    vision = config.vision
    assert (vision.num_layers, vision.num_heads, vision.activation) == (23, 16, "quick_gelu")
    assert (vision.num_features, vision.image_bytes, vision.image_token_id) == (576, 338688, 32000)
    assert (vision.layer_norm_eps, vision.has_projector_bias) == (1e-5, True)
    assert num_image_slots(config, 512 << 20, 2) == 113


def test_what_is_left_out_has_the_meaning_of_transformers(tmp_path):
    names = ("image_token_index", "vision_feature_layer", "vision_feature_select_strategy", "vision_config")
    config = _read(tmp_path, **dict.fromkeys(names, ...))
    assert config == _read(tmp_path)


def test_other_sizes_and_choices_work_from_the_config_alone(tmp_path):
    config = _read(
        tmp_path,
        vision={"image_size": [64, 64], "patch_size": 8, "hidden_act": "gelu"},
        vision_feature_layer=5,
        vision_feature_select_strategy="full",
        image_token_index=...,
        image_token_id=7,
    )
    vision = config.vision
    assert (vision.num_features, vision.num_layers, vision.image_token_id) == (65, 5, 7)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"text": {"model_type": "qwen2"}}, "text_config.model_type='qwen2'", id="language-model"
        ),
        pytest.param({"text": {"hidden_act": "gelu"}}, "text_config.hidden_act='gelu'", id="text-field"),
        pytest.param(
            {"vision": {"model_type": "siglip_vision_model"}}, "vision_config.model_type='siglip", id="tower"
        ),
        pytest.param({"vision": {"hidden_act": "relu"}}, "vision_config.hidden_act='relu'", id="activation"),
        pytest.param({"vision": {"num_channels": 1}}, "vision_config.num_channels=1", id="grey"),
        pytest.param({"vision": {"num_attention_heads": 7}}, "num_attention_heads=7", id="heads"),
        pytest.param({"vision": {"image_size": [336, 224]}}, "vision_config.image_size", id="not-square"),
        pytest.param({"vision": {"patch_size": 337}}, "vision_config.patch_size=337", id="patch"),
        pytest.param({"vision_feature_layer": [-2, -5]}, "vision_feature_layer", id="several-layers"),
        pytest.param({"vision_feature_layer": -26}, "vision_feature_layer=-26", id="one-below-layers"),
        pytest.param({"vision_feature_layer": 25}, "vision_feature_layer=25", id="one-above-layers"),
        pytest.param(
            {"vision_feature_select_strategy": "cls"}, "vision_feature_select_strategy='cls'", id="strategy"
        ),
        pytest.param({"projector_hidden_act": "relu"}, "projector_hidden_act='relu'", id="projector"),
        pytest.param({"image_token_index": 32064}, "image_token_index=32064", id="token-past-vocabulary"),
        pytest.param({"quantization_config": {"quant_method": "awq"}}, "quantization_config", id="awq"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line_that_names_the_field(tmp_path, changes, words):
    with pytest.raises(ValueError) as error:
        _read(tmp_path, **changes)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_cache_for_less_than_one_image_is_refused_with_the_numbers(tmp_path):
    with pytest.raises(ValueError, match=r"image_cache_mib=4: the features of one image take 4\.5 MiB"):
        num_image_slots(_read(tmp_path), 4 << 20, 2)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param({}, (1 / 255, 0.48145466, 0.26862954), id="clip"),
        pytest.param({"do_normalize": False}, (1 / 255, 0.0, 1.0), id="rescaled-only"),
        pytest.param({"do_rescale": False}, (1.0, 0.48145466, 0.26862954), id="not-rescaled"),
        pytest.param({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, (1 / 255, 0.5, 0.25), id="own"),
    ],
)
@pytest.mark.parametrize("name", ["preprocessor_config.json", "processor_config.json"])
def test_normalization_is_the_processor_s(tmp_path, fields, expected, name):
    raw = fields if name.startswith("pre") else {"image_processor": fields}
    (tmp_path / name).write_text(json.dumps(raw))
    found = _read(tmp_path).vision.normalization
    assert (found.rescale, found.mean[0], found.std[0]) == expected
