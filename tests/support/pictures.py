"""Small random LLaVA checkpoints, pictures for them, and what transformers makes of both."""

import hashlib
from typing import Any

import torch
import transformers

from engine_service.core_messages import PutImage
from engine_service.image_ref import ImageRef
from support.checkpoints import randomize

IMAGE_TOKEN = 90
CLIP_MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])
CLIP_STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])
TEXT = {
    "model_type": "llama", "vocab_size": 97, "hidden_size": 64, "intermediate_size": 96,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "max_position_embeddings": 256, "bos_token_id": None, "eos_token_id": None, "pad_token_id": None,
}  # fmt: skip
VISION = {
    "model_type": "clip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "image_size": 28, "patch_size": 7,
}  # fmt: skip


def random_llava(*, text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None, **changes: Any):
    """A float32 model with random weights; 16 features an image unless `changes` say otherwise."""
    config = transformers.LlavaConfig(
        text_config=TEXT | (text or {}),
        vision_config=VISION | (vision or {}),
        **({"image_token_index": IMAGE_TOKEN} | changes),
    )
    model = randomize(transformers.LlavaForConditionalGeneration(config))
    # Or it would draw placeholders, for which transformers then wants images.
    model.lm_head.weight.data[IMAGE_TOKEN] = 0.0
    return model


def picture(number: int, size: int = 28) -> torch.Tensor:
    """[size, size, 3] uint8, another for each number."""
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 256, (size, size, 3), dtype=torch.uint8, generator=generator)


def sha256(pixels: torch.Tensor) -> bytes:
    """The name of a picture."""
    return hashlib.sha256(pixels.numpy().tobytes()).digest()


def put(core, *pictures: torch.Tensor) -> None:
    """Sends pictures to a core."""
    core.pipe.commands += [PutImage(sha256(each), each.numpy().tobytes()) for each in pictures]


def prompt_of(parts, num_features: int = 16) -> tuple[tuple[int, ...], tuple[ImageRef, ...]]:
    """Ids and images of a prompt whose parts are ids and pictures."""
    ids, images = [], []
    for part in parts:
        if isinstance(part, torch.Tensor):
            images.append(ImageRef(sha256(part), len(ids), num_features))
            ids += [IMAGE_TOKEN] * num_features
        else:
            ids.append(part)
    return tuple(ids), tuple(images)


def pixel_values(pictures, mean=CLIP_MEAN, std=CLIP_STD) -> torch.Tensor:
    """[num_images, 3, size, size] float32, as transformers' processor normalizes them."""
    stacked = torch.stack(list(pictures)).float() * (1 / 255)
    return ((stacked - mean) / std).permute(0, 3, 1, 2)


@torch.inference_mode()
def llava_ids(model, parts, count: int, num_features: int = 16) -> list[int]:
    """The ids that transformers generates after a prompt."""
    ids, _ = prompt_of(parts, num_features)
    inputs = torch.tensor([ids])
    mask = torch.ones_like(inputs)
    output = model.generate(
        inputs, attention_mask=mask, do_sample=False, max_new_tokens=count, **_pixels_of(parts)
    )
    return output[0, len(ids) :].tolist()  # type: ignore[no-any-return]


@torch.inference_mode()
def llava_logprobs(model, parts, output: list[int], num_features: int = 16) -> torch.Tensor:
    """[num_tokens, vocab_size], for the place after each token of prompt and output."""
    ids, _ = prompt_of(parts, num_features)
    return model(torch.tensor([[*ids, *output]]), **_pixels_of(parts)).logits[0].log_softmax(-1)


def _pixels_of(parts) -> dict[str, torch.Tensor]:
    pictures = [part for part in parts if isinstance(part, torch.Tensor)]
    return {"pixel_values": pixel_values(pictures)} if pictures else {}
