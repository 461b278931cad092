"""Sampling: time, percent of the ceiling of reads, and torch's time for the same by sorting.

    python -m benchmarks.kernels.sampling

Needs an NVIDIA GPU. Two kinds of logits: those of a language model fall off fast, so that truncation keeps
few tokens; normal ones are the worst that truncation meets.
"""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.kernels.timing import median_us, read_bandwidth
from tandem_bench.record import write_result
from tandem_kernels import sample
from tandem_kernels.sequence_state import Column, StateLayout

VOCAB_SIZE = 128256
NUM_SEQS = (1, 16, 64, 256, 1024)
LAYOUT = StateLayout(max_stop_ids=66, max_biases=300, max_blocks=512)
# Of different logits, more than the L2 cache of an H200 holds.
MIN_LOGITS_BYTES = 240 << 20


@dataclass(frozen=True)
class Rules:
    """How all sequences of a row of the table are sampled.

    Attributes:
        bytes_per_logit: Read and written at least.
    """

    name: str
    temperature: float = 0.8
    top_p: float = 1.0
    top_k: int = VOCAB_SIZE
    has_penalties: bool = False
    bytes_per_logit: int = 4


# Penalties read the counts of tokens and write the adjusted logits.
RULES = (
    Rules("greedy", temperature=0.0),
    Rules("seeded"),
    Rules("top_p 0.95", top_p=0.95),
    Rules("top_k 50", top_k=50),
    Rules("top_k 20, top_p 0.8", top_k=20, top_p=0.8),
    Rules("penalties", has_penalties=True, bytes_per_logit=12),
)


def main() -> None:
    """Measures and writes results/kernels_sampling.json."""
    ceiling = read_bandwidth()
    print(f"read: {ceiling / 1e12:.2f} TB/s")
    rows = [
        {"logits": kind, "num_seqs": num_seqs} | measure(rules, make_logits, num_seqs, ceiling)
        for kind, make_logits in (("of a model", model_logits), ("normal", normal_logits))
        for num_seqs in NUM_SEQS
        for rules in RULES
    ]
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    print(write_result("kernels_sampling", {"read_tb_per_s": round(ceiling / 1e12, 3), "rows": rows}))


def measure(
    rules: Rules, make_logits: Callable[[int], torch.Tensor], num_seqs: int, ceiling: float
) -> dict[str, object]:
    """A row of the table; `ceiling` in bytes per second."""
    num_calls = min(max(MIN_LOGITS_BYTES // (4 * num_seqs * VOCAB_SIZE), 2), 100)
    # Each call draws at other positions, so that the candidates that truncation drops are an average.
    all_logits = [make_logits(num_seqs) for _ in range(num_calls)]
    adjusted = torch.empty_like(all_logits[0])
    rows = torch.arange(num_seqs, dtype=torch.int32, device="cuda")
    state, counts = make_state(rules, num_seqs)
    ours_us = median_us(
        [
            partial(sample, logits, adjusted, rows, rows + 1000 * call, state, counts, LAYOUT)
            for call, logits in enumerate(all_logits)
        ]
    )
    torchs_us = median_us([partial(torch_sample, logits, rules) for logits in all_logits], replays=5)
    num_bytes = num_seqs * VOCAB_SIZE * rules.bytes_per_logit
    return {
        "rules": rules.name,
        "bytes": num_bytes,
        "us": round(ours_us, 2),
        "percent_of_read": round(num_bytes / ours_us * 1e6 / ceiling * 100, 1),
        "torch_us": round(torchs_us, 2),
    }


def make_state(rules: Rules, num_seqs: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The state and the counts of tokens of sequences that differ in their seeds."""
    state = torch.zeros(num_seqs, LAYOUT.row_size, dtype=torch.int32)
    floats = {
        Column.TEMPERATURE: rules.temperature,
        Column.TOP_P: rules.top_p,
        Column.REPETITION: 1.2,
        Column.PRESENCE: 0.5,
        Column.FREQUENCY: 0.5,
    }
    for column, value in floats.items():
        state[:, column] = struct.unpack("<i", struct.pack("<f", value))[0]
    state[:, Column.TOP_K] = rules.top_k
    state[:, Column.SEED_LOW] = torch.arange(num_seqs)
    state[:, Column.HAS_PENALTIES] = rules.has_penalties
    counts = torch.zeros(num_seqs, VOCAB_SIZE, dtype=torch.int32, device="cuda")
    counts[:, ::100] = 3
    return state.cuda(), counts


def model_logits(num_seqs: int) -> torch.Tensor:
    """Logits whose probabilities fall with the rank by Zipf's law, squared, in random order."""
    ranks = torch.rand(num_seqs, VOCAB_SIZE, device="cuda") * VOCAB_SIZE
    return -1.6 * torch.log(ranks + 1)


def normal_logits(num_seqs: int) -> torch.Tensor:
    """Normal logits with a deviation of 2."""
    return 2 * torch.randn(num_seqs, VOCAB_SIZE, device="cuda")


def torch_sample(logits: torch.Tensor, rules: Rules) -> torch.Tensor:
    """What one would write in torch; without penalties."""
    if rules.temperature == 0:
        return logits.argmax(-1)
    scaled = logits / rules.temperature
    if rules.top_k < VOCAB_SIZE:
        least = scaled.topk(rules.top_k).values[:, -1:]
        scaled = scaled.masked_fill(scaled < least, -math.inf)
    if rules.top_p < 1:
        values, order = scaled.sort(descending=True)
        probabilities = values.softmax(-1)
        is_dropped = probabilities.cumsum(-1) - probabilities >= rules.top_p
        scaled = torch.empty_like(scaled).scatter_(1, order, values.masked_fill(is_dropped, -math.inf))
    noise = torch.empty_like(scaled).exponential_()
    return (scaled.softmax(-1) / noise).argmax(-1)


if __name__ == "__main__":
    main()
