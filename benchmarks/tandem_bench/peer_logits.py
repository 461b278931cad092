"""The logits of transformers after known tokens, by the same steps as the engine's."""

from pathlib import Path
from typing import Any

import torch
import transformers

from engine_service.model_config import read_model_config
from engine_service.vision_config import Normalization
from tandem_bench.gpu_memory import free_gpu_memory
from tandem_bench.known_tokens import KnownTokens


@torch.inference_mode()
def peer_logits(
    directory: Path, known: KnownTokens, device: str, dtype: torch.dtype
) -> torch.Tensor:  # [num_tokens, vocab_size] float32, on the CPU
    """The scores after each token: of the prompt at once, then of one token after another.

    Args:
        directory: The checkpoint.
        known: The tokens of one sequence. An image's pixels are normalized as the engine does it.
        device: For example "cuda".
        dtype: Of weights and KV cache.
    """
    # Else the convolution that makes patches is TF32 where float32 is asked for.
    torch.backends.cudnn.allow_tf32 = False
    kind: Any = transformers.AutoModelForCausalLM
    inputs: dict[str, torch.Tensor] = {}
    if known.image is not None:
        vision = read_model_config(directory).vision
        assert vision is not None
        kind = transformers.AutoModelForImageTextToText
        inputs["pixel_values"] = _normalized(known.image.pixels, vision.normalization)[None].to(device)
    model = kind.from_pretrained(directory, dtype=dtype).to(device).eval()
    tokens = torch.tensor([known.ids], device=device)
    output = model(input_ids=tokens[:, : known.num_prompt], use_cache=True, **inputs)
    logits = [output.logits[0].float().cpu()]
    for place in range(known.num_prompt, len(known.ids)):
        token = tokens[:, place : place + 1]
        output = model(input_ids=token, past_key_values=output.past_key_values, use_cache=True)
        logits.append(output.logits[0].float().cpu())
    del model, output
    free_gpu_memory()
    return torch.cat(logits)


def _normalized(
    pixels: torch.Tensor,  # [height, width, 3] uint8
    normalization: Normalization,
) -> torch.Tensor:  # [3, height, width] float32
    """What a processor makes of an image that has its size already."""
    mean, std = (torch.tensor(each) for each in (normalization.mean, normalization.std))
    return ((pixels.float() * normalization.rescale - mean) / std).permute(2, 0, 1)
