"""The least time that a workload takes, by the bytes it must read and the operations it must do."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tandem_bench.ceilings import Ceilings
from tandem_bench.load import Lengths
from tandem_bench.shape import Shape


@dataclass(frozen=True)
class Floor:
    """The model of one shape's language model on one device.

    A step reads every weight once and the keys and values of every context once; a linear layer does two
    operations for each weight and token, attention four for each head element, query and key, of which
    causality halves those of a prompt. Reads and operations overlap, so the longer of both counts.

    Attributes:
        element_bytes: Of weights and KV cache.
    """

    shape: Shape
    ceilings: Ceilings
    element_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Read in every step: all weights, but only a few rows of an embedding that is not the head."""
        sizes = self.shape.language_tensors()
        if not self.shape.is_tied:
            del sizes["model.embed_tokens.weight"]
        return self.element_bytes * sum(math.prod(size) for size in sizes.values())

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of all layers."""
        shape = self.shape
        return 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * self.element_bytes

    def decode_step_s(self, num_seqs: int, num_context_tokens: float) -> float:
        """One token for each of `num_seqs` sequences, whose contexts have this many tokens together."""
        num_bytes = self.weight_bytes + self.kv_bytes_per_token * num_context_tokens
        operations = 2.0 * num_seqs * (self._layer_weights + self._head_weights)
        operations += self._attention_operations * num_context_tokens
        return self._seconds(num_bytes, operations)

    def prefill_s(self, lengths: Sequence[int]) -> float:
        """Prompts of these lengths, of which only the last tokens pass the head and what of the last layer
        comes after its attention.
        """
        operations = 2.0 * self._layer_weights * sum(lengths) + 2.0 * self._head_weights * len(lengths)
        operations -= 2.0 * self._last_weights * (sum(lengths) - len(lengths))
        operations += self._attention_operations * sum(length**2 / 2 for length in lengths)
        return self._seconds(self.weight_bytes, operations)

    def requests_s(self, lengths: Lengths) -> float:
        """All prompts, then all answers."""
        return self.prefill_s(lengths.inputs) + self.answers_s(lengths)

    def answers_s(self, lengths: Lengths) -> float:
        """All answers side by side without their first tokens, which come with the prompts."""
        total_s = 0.0
        for step in range(1, max(lengths.outputs)):
            contexts = [
                num_input + step
                for num_input, num_output in zip(lengths.inputs, lengths.outputs, strict=True)
                if num_output > step
            ]
            total_s += self.decode_step_s(len(contexts), sum(contexts))
        return total_s

    def _seconds(self, num_bytes: float, operations: float) -> float:
        return max(num_bytes / self.ceilings.read_bytes_per_s, operations / self.ceilings.matmul_flop_per_s)

    @property
    def _head_weights(self) -> int:
        return self.shape.vocab_size * self.shape.hidden_size

    @property
    def _layer_weights(self) -> int:
        return self._weights_of(r"_proj\.weight$")

    @property
    def _last_weights(self) -> int:
        """Those of the last layer that come after its attention."""
        last = self.shape.num_layers - 1
        return self._weights_of(rf"layers\.{last}\.(self_attn\.o|mlp\.\w+)_proj\.weight$")

    def _weights_of(self, pattern: str) -> int:
        sizes = self.shape.language_tensors()
        return sum(math.prod(size) for name, size in sizes.items() if re.search(pattern, name))

    @property
    def _attention_operations(self) -> int:
        """For each query and key, in all layers."""
        return 4 * self.shape.num_layers * self.shape.num_heads * self.shape.head_dim
