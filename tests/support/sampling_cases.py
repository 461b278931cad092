"""Sequences with all kinds of sampling, and what `sample` takes of them."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from engine_service.sampling_params import SamplingParams
from engine_service.sequence import Sequence, SequenceSpec
from engine_service.sequence_table import SequenceTable
from tandem_kernels.sequence_state import StateLayout

LAYOUT = StateLayout(max_stop_ids=8, max_biases=300, max_blocks=4)
KINDS = {
    "greedy": SamplingParams(temperature=0.0),
    "seeded": SamplingParams(temperature=0.9, seed=7),
    "top-p": SamplingParams(temperature=0.8, top_p=0.95, seed=2**64 - 1),
    "low-top-p": SamplingParams(top_p=0.2, seed=2**63),
    "tiny-top-p": SamplingParams(top_p=1e-6, seed=1),
    "top-1": SamplingParams(top_k=1, seed=2),
    "top-k": SamplingParams(top_k=50, seed=3),
    "most-of-top-k": SamplingParams(temperature=2.0, top_k=900, seed=4),
    "top-k-and-p": SamplingParams(temperature=0.7, top_k=20, top_p=0.8, seed=5),
    "wide-top-k-and-p": SamplingParams(temperature=1.5, top_k=800, top_p=0.6, min_p=1e-3, seed=6),
    "min-p": SamplingParams(min_p=0.05, seed=8),
    "highest-min-p": SamplingParams(min_p=1.0, seed=9),
    "hot": SamplingParams(temperature=100.0, top_p=0.5, seed=10),
    "cold": SamplingParams(temperature=1e-3, top_p=0.9, top_k=5, seed=11),
    "greedy-penalties": SamplingParams(temperature=0.0, repetition_penalty=3.0, presence_penalty=1.0),
    "penalties": SamplingParams(
        temperature=0.8, repetition_penalty=1.3, presence_penalty=0.4, frequency_penalty=-0.3, seed=12
    ),
    "penalties-top-p": SamplingParams(frequency_penalty=2.0, top_p=0.7, seed=13),
    "biases": SamplingParams(temperature=0.0, logit_bias=((5, 14.0), (39, 11.0), (7, -100.0))),
    "300-biases": SamplingParams(top_p=0.9, logit_bias=tuple((i // 2, i / 60) for i in range(0, 600, 2))),
}


def make_sequences(
    params: Iterable[SamplingParams],
    prompt: tuple[int, ...] = (1, 2, 3),
    output: Iterable[int] = (),
    eos_ids: tuple[int, ...] = (49,),
    min_tokens: int = 0,
    stop_token_ids: frozenset[int] = frozenset(),
) -> list[Sequence]:
    """One sequence for each parameters, each in its own row."""
    sequences = []
    for row, each in enumerate(params):
        spec = SequenceSpec(prompt, 99, each, min_tokens=min_tokens, stop_token_ids=stop_token_ids)
        sequence = Sequence((0, row), spec, row, 0.0, eos_ids)
        sequence.tokens += output
        sequence.row = row
        sequences.append(sequence)
    return sequences


def filled_table(sequences: list[Sequence], vocab_size: int) -> SequenceTable:
    """A table on the CPU with the sequences' rows, and one more for padding."""
    table = SequenceTable(len(sequences), vocab_size, LAYOUT, torch.device("cpu"))
    for sequence in sequences:
        table.set_row(sequence)
    places, words = (torch.tensor(part, dtype=torch.int32) for part in table.take_changes())
    table.state.view(-1)[places] = words
    return table


@dataclass
class SampleArguments:
    """The arguments of `sample`, in its order.

    Attributes:
        adjusted: NaN where nothing wrote.
    """

    logits: torch.Tensor
    adjusted: torch.Tensor
    rows: torch.Tensor
    positions: torch.Tensor
    state: torch.Tensor
    token_counts: torch.Tensor
    layout: StateLayout = LAYOUT

    @classmethod
    def of(cls, sequences: list[Sequence], logits: torch.Tensor) -> "SampleArguments":
        """One draw of each sequence, on the CPU."""
        table = filled_table(sequences, logits.shape[1])
        rows = torch.arange(len(sequences), dtype=torch.int32)
        positions = torch.tensor([len(sequence.tokens) for sequence in sequences], dtype=torch.int32)
        adjusted = torch.full_like(logits, float("nan"))
        return cls(logits, adjusted, rows, positions, table.state, table.token_counts)

    def to(self, device: torch.device) -> "SampleArguments":
        """A copy."""
        tensors = [value for value in vars(self).values() if isinstance(value, torch.Tensor)]
        return SampleArguments(*(tensor.to(device, copy=True) for tensor in tensors), self.layout)

    def only(self, index: int) -> "SampleArguments":
        """A copy with one of the sequences drawing."""
        copy, part = self.to(self.logits.device), slice(index, index + 1)
        copy.logits, copy.adjusted = copy.logits[part].clone(), copy.adjusted[part].clone()
        copy.rows, copy.positions = copy.rows[part].clone(), copy.positions[part].clone()
        return copy

    def all(self) -> tuple[torch.Tensor, ...]:
        """The arguments as `sample` takes them."""
        return tuple(vars(self).values())
