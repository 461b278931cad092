"""The files beside the weights: tokenizer, chat template, image processor, processor. No torch here."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from tandem_demo.pictures.pixels import IMAGE_SIDE
from tandem_demo.pictures.rows import PATCH_SIDE
from tandem_demo.pictures.tokenizer import BEGIN, CHAT_TEMPLATE, END, IMAGE, PAD, ROLES

CONTEXT_LENGTH = 1024
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""CLIP's."""
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)
_BICUBIC = 3

IMAGE_PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "crop_size": {"height": IMAGE_SIDE, "width": IMAGE_SIDE},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": list(IMAGE_MEAN),
    "image_std": list(IMAGE_STD),
    "resample": _BICUBIC,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": IMAGE_SIDE},
}
PROCESSOR = {
    "processor_class": "LlavaProcessor",
    "image_token": IMAGE,
    "num_additional_image_tokens": 1,
    "patch_size": PATCH_SIDE,
    "vision_feature_select_strategy": "default",
}


def save_processor(tokenizer: Tokenizer, directory: Path) -> None:
    """Write the tokenizer, its configuration, the chat template and the processors' configurations."""
    make_fast: Any = PreTrainedTokenizerFast
    fast = make_fast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[*ROLES.values(), IMAGE],
        model_max_length=CONTEXT_LENGTH,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
    fast.save_pretrained(directory)
    _write(directory / "preprocessor_config.json", IMAGE_PROCESSOR)
    _write(directory / "processor_config.json", PROCESSOR)


def _write(file: Path, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")
