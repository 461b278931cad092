"""What a checkpoint's files say about images, in their old and new spellings, and what is refused."""

import json

import pytest

from tokenizer_service.image_config import load_image_config
from tokenizer_service.image_processor import ImageProcessor

CONFIG = {
    "model_type": "llava",
    "image_token_index": 32000,
    "vision_config": {"model_type": "clip_vision_model", "image_size": 336, "patch_size": 14},
}
OLD = {
    "crop_size": {"height": 336, "width": 336},
    "image_processor_type": "CLIPImageProcessor",
    "resample": 3,
    "size": {"shortest_edge": 336},
}
OLDEST = {"crop_size": 336, "feature_extractor_type": "CLIPFeatureExtractor", "resample": 3, "size": 336}
PADDED = {**OLD, "image_processor_type": "LlavaImageProcessor", "do_pad": True}
PLAIN = ImageProcessor(shortest_edge=336, crop=(336, 336))
MEAN = (122, 116, 104)


def load(directory, config=CONFIG, **files):
    (directory / "config.json").write_text(json.dumps(config))
    for name, fields in files.items():
        (directory / f"{name}.json").write_text(json.dumps(fields))
    return load_image_config(directory)


@pytest.mark.parametrize(
    ("files", "processor"),
    [
        ({"preprocessor_config": OLD}, PLAIN),
        ({"preprocessor_config": OLDEST}, PLAIN),
        ({"processor_config": {"image_processor": OLD, "image_token": "<image>"}}, PLAIN),
        ({"processor_config": {"image_processor": OLD}, "preprocessor_config": {"size": 1}}, PLAIN),
        ({"preprocessor_config": {**OLD, "do_pad": True}}, PLAIN),
        ({"preprocessor_config": PADDED}, ImageProcessor(MEAN, 336, crop=(336, 336))),
        (
            {"preprocessor_config": {**OLD, "image_aspect_ratio": "pad", "do_center_crop": False}},
            ImageProcessor(MEAN, 336),
        ),
        (
            {
                "preprocessor_config": {
                    "size": {"height": 336, "width": 336},
                    "do_center_crop": False,
                    "resample": 2,
                }
            },
            ImageProcessor(resize_to=(336, 336), resample=2),
        ),
    ],
    ids=["old", "oldest", "nested", "nested-first", "clips-pad", "llavas-pad", "aspect-ratio", "stretch"],
)
def test_every_spelling_is_read(tmp_path, files, processor):
    found = load(tmp_path, **files)
    assert found.processor == processor
    assert (found.token_id, found.num_tokens) == (32000, 576)


def test_the_models_own_aspect_ratio_counts(tmp_path):
    found = load(tmp_path, {**CONFIG, "image_aspect_ratio": "pad"}, preprocessor_config=OLD)
    assert found.processor.background == MEAN


@pytest.mark.parametrize(
    ("changes", "processor", "num_tokens"),
    [
        ({}, {}, 576),
        ({"vision_feature_select_strategy": "full"}, {}, 577),
        ({}, {"num_additional_image_tokens": 0}, 576),
        (
            {
                "vision_config": {"model_type": "siglip_vision_model", "image_size": 336, "patch_size": 14},
                "vision_feature_select_strategy": "full",
            },
            {"num_additional_image_tokens": 2},
            578,
        ),
        ({"vision_config": {"image_size": 336, "patch_size": 48}}, {}, 49),
        ({"vision_config": None}, {}, 576),
        ({"vision_config": {"image_size": [336, 336], "patch_size": [14, 14]}}, {}, 576),
    ],
    ids=[
        "default",
        "full",
        "a-clip-always-has-a-class-token",
        "another-tower",
        "large-patches",
        "llavas-own",
        "lists",
    ],
)
def test_an_image_has_as_many_placeholders_as_features(tmp_path, changes, processor, num_tokens):
    found = load(tmp_path, {**CONFIG, **changes}, preprocessor_config=OLD, processor_config=processor)
    assert found.num_tokens == num_tokens


def test_the_token_id_has_two_names(tmp_path):
    config = {name: value for name, value in CONFIG.items() if name != "image_token_index"}
    assert load(tmp_path, {**config, "image_token_id": 7}, preprocessor_config=OLD).token_id == 7
    assert load(tmp_path, config, preprocessor_config=OLD).token_id == 32000


def test_a_text_model_takes_no_images(tmp_path):
    assert load(tmp_path, {"model_type": "llama"}, preprocessor_config=OLD) is None


@pytest.mark.parametrize(
    ("config", "fields", "said"),
    [
        ({}, {**OLD, "crop_size": 224}, "makes images of 224 x 224; vision_config.image_size=336"),
        ({}, {**OLD, "do_center_crop": False}, "makes images of any size"),
        ({}, {**OLD, "size": {"longest_edge": 336}}, "size={'longest_edge': 336} is not supported"),
        ({}, {**OLD, "resample": 9}, "resample=9"),
        ({}, {**OLD, "resample": 1}, "resample=1 with size.shortest_edge is not supported"),
        ({}, {**OLD, "image_aspect_ratio": "anyres"}, "image_aspect_ratio='anyres'"),
        ({"vision_config": {"image_size": [336, 28]}}, OLD, "vision_config.image_size=[336, 28]"),
        ({"vision_feature_select_strategy": "some"}, OLD, "vision_feature_select_strategy='some'"),
    ],
    ids=[
        "crop",
        "no-crop",
        "longest",
        "filter",
        "filter-without-bound",
        "aspect-ratio",
        "oblong",
        "strategy",
    ],
)
def test_what_cannot_be_served_is_named(tmp_path, config, fields, said):
    with pytest.raises(ValueError) as caught:
        load(tmp_path, {**CONFIG, **config}, preprocessor_config=fields)
    assert said in str(caught.value)
