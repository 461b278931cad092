"""Sequences whose tokens are all known, to compare the logits after each of them."""

from dataclasses import dataclass

import torch

from tandem_bench.llava_shape import LlavaShape
from tandem_bench.load import random_prompts
from tandem_bench.shape import Shape

NUM_PROMPT, NUM_DECODE = 256, 256
# Beside an image, whose tokens are many.
NUM_BEFORE, NUM_BEHIND, NUM_DECODE_BEHIND = 1, 64, 64


@dataclass(frozen=True)
class KnownImage:
    """What a run of a prompt's tokens stands for.

    Attributes:
        pixels: [side, side, 3] uint8.
        start: Index of its first placeholder.
        num_features: Its placeholders.
    """

    pixels: torch.Tensor
    start: int
    num_features: int


@dataclass(frozen=True)
class KnownTokens:
    """One sequence.

    Attributes:
        ids: The prompt, then what is fed to decode steps, one token each.
        num_prompt: How many of them are the prompt.
        image: In the prompt, if there is one.
    """

    ids: tuple[int, ...]
    num_prompt: int
    image: KnownImage | None = None


def known_tokens(shape: Shape, seed: str, shrink: int = 1) -> KnownTokens:
    """Random tokens: of text alone, or around an image for a model that sees.

    Args:
        shape: The model.
        seed: Of the ids.
        shrink: Divides all lengths but the image's.
    """
    if isinstance(shape, LlavaShape):
        return _with_image(shape, seed, shrink)
    num_prompt, num_decode = (max(2, each // shrink) for each in (NUM_PROMPT, NUM_DECODE))
    (ids,) = random_prompts([num_prompt + num_decode], shape.vocab_size, seed)
    return KnownTokens(ids, num_prompt)


def _with_image(shape: LlavaShape, seed: str, shrink: int) -> KnownTokens:
    num_behind, num_decode = (max(2, each // shrink) for each in (NUM_BEHIND, NUM_DECODE_BEHIND))
    before, behind = random_prompts([NUM_BEFORE, num_behind + num_decode], shape.image_token_id, seed)
    side, num_features = shape.tower.image_size, shape.tower.num_patches
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (side, side, 3), dtype=torch.uint8, generator=generator)
    ids = (*before, *[shape.image_token_id] * num_features, *behind)
    return KnownTokens(ids, len(ids) - num_decode, KnownImage(pixels, NUM_BEFORE, num_features))
