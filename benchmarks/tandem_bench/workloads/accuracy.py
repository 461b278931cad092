"""How far bfloat16 logits are from float32, ours beside those of transformers."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from tandem_bench.bench import Bench, say
from tandem_bench.engine_logits import engine_logits
from tandem_bench.load import random_prompts
from tandem_bench.measurement import Measurement, rounded

NUM_PROMPT, NUM_DECODE = 256, 256
MAX_RATIO = 1.1


def accuracy(bench: Bench) -> Iterator[Measurement]:
    """Our relative error over that of transformers, at prefill and over teacher-forced decode steps."""
    bench.close_engine()
    directory, device = bench.checkpoint, bench.settings.device
    num_prompt = max(2, NUM_PROMPT // bench.settings.shrink)
    num_decode = max(2, NUM_DECODE // bench.settings.shrink)
    (ids,) = random_prompts([num_prompt + num_decode], bench.settings.shape.vocab_size, "accuracy")
    say("logits of transformers in float32")
    exact = _peer_logits(directory, ids, num_prompt, device, torch.float32)
    say("logits of transformers in bfloat16")
    theirs = relative_errors(_peer_logits(directory, ids, num_prompt, device, torch.bfloat16), exact)
    say("logits of the engine in bfloat16")
    ours = relative_errors(engine_logits(directory, ids, num_prompt, device), exact)
    parts = {"prefill": slice(0, num_prompt), "decode": slice(num_prompt, None), "last": slice(-1, None)}
    for name, part in parts.items():
        our_error, their_error = _over(ours, part), _over(theirs, part)
        ratio = our_error / their_error
        details = {
            "engine_error": rounded(our_error),
            "transformers_error": rounded(their_error),
            "max_ratio": MAX_RATIO,
            "is_within": ratio <= MAX_RATIO,
        }
        yield Measurement(f"accuracy-{name}", "x transformers", [ratio], details=details)


def relative_errors(
    logits: torch.Tensor,  # [num_tokens, vocab_size]
    exact: torch.Tensor,  # [num_tokens, vocab_size]
) -> torch.Tensor:  # [num_tokens, 2] float64
    """Squared norms of the error and of the exact logits of each token."""
    pairs = zip(logits, exact, strict=True)
    squares = [
        (float((a.double() - b.double()).square().sum()), float(b.double().square().sum())) for a, b in pairs
    ]
    return torch.tensor(squares, dtype=torch.float64)


def _over(squares: torch.Tensor, part: slice) -> float:
    """The relative error of several tokens together."""
    error, norm = squares[part].sum(dim=0).tolist()
    return float((error / norm) ** 0.5)


@torch.inference_mode()
def _peer_logits(
    directory: Path, ids: tuple[int, ...], num_prompt: int, device: str, dtype: torch.dtype
) -> torch.Tensor:  # [num_tokens, vocab_size] float32, on the CPU
    """What transformers computes in the same steps as the engine."""
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
    model = model.to(device).eval()
    tokens = torch.tensor([ids], device=device)
    output = model(tokens[:, :num_prompt], use_cache=True)
    logits = [output.logits[0].float().cpu()]
    for place in range(num_prompt, len(ids)):
        output = model(tokens[:, place : place + 1], past_key_values=output.past_key_values, use_cache=True)
        logits.append(output.logits[0].float().cpu())
    del model, output
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
    return torch.cat(logits)
