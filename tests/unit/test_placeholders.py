"""Placeholders of images: as many, and where, as transformers' LlavaProcessor has them."""

import numpy as np
import pytest
from PIL import Image
from transformers import LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from support.small_tokenizers import with_images, write_vision_model_dir
from tokenizer_service.image_config import load_image_config
from tokenizer_service.placeholders import expand, find
from tokenizer_service.tokenizer import load_tokenizer

IMAGE = 9


@pytest.mark.parametrize(
    ("ids", "longer", "starts"),
    [
        ([], (), ()),
        ([1, 2], (1, 2), ()),
        ([IMAGE], (IMAGE,) * 3, (0,)),
        ([1, IMAGE, 2], (1, IMAGE, IMAGE, IMAGE, 2), (1,)),
        ([IMAGE, IMAGE, 1, IMAGE], (*[IMAGE] * 6, 1, *[IMAGE] * 3), (0, 3, 7)),
    ],
    ids=["nothing", "no-image", "alone", "between", "several"],
)
def test_a_placeholder_becomes_a_run(ids, longer, starts):
    assert expand(ids, IMAGE, 3) == (longer, starts)
    assert find(longer, IMAGE, 3) == starts


@pytest.mark.parametrize("run", [1, 2, 4, 5], ids=str)
def test_a_run_of_another_length_is_none(run):
    assert find([1, *[IMAGE] * run, 2], IMAGE, 3) is None


@pytest.mark.parametrize("strategy", ["default", "full"])
@pytest.mark.parametrize(
    "prompt",
    ["<image>", "see <image>\nand <image><image>, what?", "words <image> ", "no picture"],
    ids=["alone", "several", "space-behind", "none"],
)
def test_ids_are_those_of_transformers(tmp_path, prompt, strategy):
    directory = write_vision_model_dir(tmp_path, vision_feature_select_strategy=strategy)
    config = load_image_config(directory)
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil.from_pretrained(directory),
        tokenizer=load_tokenizer(directory, 1).source,
        patch_size=14,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=1,
    )
    pictures = [Image.fromarray(np.zeros((40, 30, 3), np.uint8))] * prompt.count("<image>")
    expected = processor(text=prompt, images=pictures or None, add_special_tokens=False)["input_ids"][0]
    ids = with_images().encode(prompt, add_special_tokens=False).ids
    assert list(expand(ids, config.token_id, config.num_tokens)[0]) == list(expected)
