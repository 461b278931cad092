"""What a checkpoint's files say about images: their placeholders, and how pictures become pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tandem_service.model_dir import read_json
from tokenizer_service.image_processor import ImageProcessor
from tokenizer_service.resampling import FILTERS

_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_NUM_FILTERS = 6
# What config.json leaves out: the defaults of LlavaConfig and CLIPVisionConfig in transformers.
_LLAVA_TOWER = {"image_size": 336, "patch_size": 14}
_CLIP_TOWER = {"model_type": "clip_vision_model", "image_size": 224, "patch_size": 32}
_LLAVA_TOKEN_ID = 32_000


@dataclass(frozen=True)
class ImageConfig:
    """How a model takes images.

    Attributes:
        token_id: The id of a placeholder.
        num_tokens: Placeholders of one image.
        processor: Makes the pixels.
    """

    token_id: int
    num_tokens: int
    processor: ImageProcessor


def load_image_config(directory: Path) -> ImageConfig | None:
    """Reads it from a model directory, in the old and the new spellings; None for models without images.

    Raises:
        ValueError: A field is missing, or has a value that is not supported.
    """
    config = read_json(directory / "config.json")
    if config.get("model_type") != "llava":
        return None
    token_id = config.get("image_token_id", config.get("image_token_index", _LLAVA_TOKEN_ID))
    tower = {**_CLIP_TOWER, **(config.get("vision_config") or _LLAVA_TOWER)}
    outer = read_json(directory / "processor_config.json")
    inner = outer.get("image_processor") or read_json(directory / "preprocessor_config.json")
    try:
        processor = _processor({**inner, "image_aspect_ratio": _aspect_ratio(inner, config)})
        _check_size(processor, _side(tower, "image_size"))
        return ImageConfig(int(token_id), _num_tokens(tower, config, outer), processor)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{directory}: images: {reason}") from None


def _num_tokens(tower: dict[str, Any], config: dict[str, Any], processor_config: dict[str, Any]) -> int:
    """Features of one image: its patches, and what the tower adds and the model drops.

    A CLIP tower adds a class token; for other towers the processor's configuration says what they add.
    """
    per_side = _side(tower, "image_size") // _side(tower, "patch_size")
    is_clip = tower["model_type"] == "clip_vision_model"
    added = 1 if is_clip else int(processor_config.get("num_additional_image_tokens", 0))
    strategy = config.get("vision_feature_select_strategy", "default")
    if strategy not in ("default", "full"):
        raise ValueError(f"vision_feature_select_strategy={strategy!r} is not supported")
    num_dropped = 1 if strategy == "default" else 0
    return per_side * per_side + added - num_dropped


def _side(tower: dict[str, Any], name: str) -> int:
    """A side in pixels, written as one number or as two that are equal."""
    value = tower[name]
    sides = set(value) if isinstance(value, list) else {value}
    if len(sides) != 1 or not isinstance(side := sides.pop(), int) or side < 1:
        raise ValueError(f"vision_config.{name}={value} is not supported; supported are squares")
    return side


def _aspect_ratio(processor: dict[str, Any], config: dict[str, Any]) -> str:
    value = processor.get("image_aspect_ratio", config.get("image_aspect_ratio")) or "square"
    if value not in ("square", "pad"):
        raise ValueError(f"image_aspect_ratio={value!r} is not supported")
    return str(value)


def _processor(fields: dict[str, Any]) -> ImageProcessor:
    """From the fields of an image processor; those left out have CLIP's values."""
    is_llava = str(fields.get("image_processor_type", "")).startswith("LlavaImageProcessor")
    pads = fields["image_aspect_ratio"] == "pad" or (is_llava and bool(fields.get("do_pad")))
    mean = fields.get("image_mean") or _OPENAI_MEAN
    resample = int(fields.get("resample", 3))
    if not 0 <= resample < _NUM_FILTERS:
        raise ValueError(f"resample={resample} is no filter of Pillow")
    size = fields.get("size", {"shortest_edge": 224}) if fields.get("do_resize", True) else {}
    size = {"shortest_edge": size} if isinstance(size, int) else size
    crop = fields.get("crop_size", 224) if fields.get("do_center_crop", True) else None
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    has_shortest, has_both = "shortest_edge" in size, {"height", "width"} <= set(size)
    if size and (has_shortest == has_both or "longest_edge" in size):
        raise ValueError(f"size={size} is not supported; shortest_edge, or height and width")
    if has_shortest and not pads and resample not in FILTERS:
        # Enlarging a thin picture whole would take memory without bound.
        raise ValueError(f"resample={resample} with size.shortest_edge is not supported; 2 and 3 are")
    return ImageProcessor(
        background=(int(mean[0] * 255), int(mean[1] * 255), int(mean[2] * 255)) if pads else None,
        shortest_edge=size.get("shortest_edge"),
        resize_to=(size["height"], size["width"]) if has_both else None,
        resample=resample,
        crop=None if crop is None else (crop["height"], crop["width"]),
    )


def _check_size(processor: ImageProcessor, side: int) -> None:
    if processor.size != (side, side):
        found = "of any size" if processor.size is None else f"of {processor.size[0]} x {processor.size[1]}"
        raise ValueError(f"the processor makes images {found}; vision_config.image_size={side}")
