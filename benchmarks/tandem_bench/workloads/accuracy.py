"""How far bfloat16 logits are from float32, ours beside those of transformers."""

from collections.abc import Iterator

import torch

from tandem_bench.bench import Bench, say
from tandem_bench.engine_logits import engine_logits
from tandem_bench.known_tokens import known_tokens
from tandem_bench.measurement import Measurement, rounded
from tandem_bench.peer_logits import peer_logits

MAX_RATIO = 1.1


def accuracy(bench: Bench) -> Iterator[Measurement]:
    """Our relative error over that of transformers, at prefill and over teacher-forced decode steps."""
    bench.close_engine()
    directory, device = bench.checkpoint, bench.settings.device
    known = known_tokens(bench.settings.shape, "accuracy", bench.settings.shrink)
    say("logits of transformers in float32")
    exact = peer_logits(directory, known, device, torch.float32)
    say("logits of transformers in bfloat16")
    theirs = relative_errors(peer_logits(directory, known, device, torch.bfloat16), exact)
    say("logits of the engine in bfloat16")
    ours = relative_errors(engine_logits(directory, known, device), exact)
    num_prompt = known.num_prompt
    parts = {"prefill": slice(0, num_prompt), "decode": slice(num_prompt, None), "last": slice(-1, None)}
    for name, part in parts.items():
        our_error, their_error = _over(ours, part), _over(theirs, part)
        ratio = our_error / their_error
        details = {
            "num_tokens": len(ours[part]),
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
