"""The engine's logits of known tokens: a prompt in one prefill, then a decode step for each further one."""

from collections.abc import Sequence as Items
from pathlib import Path

import torch

from engine_service.config import EngineConfig
from engine_service.loading import load_runner
from engine_service.model_config import read_model_config
from engine_service.model_runner import ModelRunner
from engine_service.plan import Plan, PrefillChunk
from engine_service.sequence import Sequence, SequenceSpec
from engine_service.step_words import NO_PREFILL, PrefillShape
from tandem_kernels.sequence_state import Column

BLOCK_SIZE = 16


@torch.inference_mode()
def engine_logits(
    directory: Path, token_ids: Items[int], num_prompt: int, device: str, dtype: str = "bfloat16"
) -> torch.Tensor:  # [num_tokens, vocab_size] float32, on the CPU
    """The scores after each token, by the engine's own steps: as graphs where it has graphs.

    Args:
        directory: The checkpoint.
        token_ids: All tokens of one sequence.
        num_prompt: How many of them are prefilled; each later one is fed to a decode step.
        device: For example "cuda".
        dtype: Of weights and KV cache.
    """
    num_blocks = -(-len(token_ids) // BLOCK_SIZE)
    config = EngineConfig(
        device=device,
        dtype=dtype,
        context_length=num_blocks * BLOCK_SIZE,
        max_num_seqs=1,
        max_prefill_tokens=num_prompt,
        kv_block_size=BLOCK_SIZE,
        num_blocks=num_blocks,
    )
    runner = load_runner(config, read_model_config(directory), directory, 0)
    sequence = Sequence((0, 0), SequenceSpec(tuple(token_ids), 1), 0, 0.0, ())
    sequence.blocks, sequence.row = list(range(num_blocks)), 0
    first = _prefill(runner, sequence, num_prompt)
    decoded = [_decode(runner, sequence, place) for place in range(num_prompt, len(token_ids))]
    return torch.cat([first, *decoded])


def _prefill(runner: ModelRunner, sequence: Sequence, num_prompt: int) -> torch.Tensor:
    chunk = PrefillChunk(sequence, 0, num_prompt, is_first=True, is_last=True)
    shape = runner._graphs.prefill_shape(PrefillShape.of([chunk]))
    runner._send_inputs(Plan(0, [chunk], []), shape)
    drawn = runner._graphs.prefill(shape)
    return runner._prompt_logits(drawn.residual[:num_prompt]).cpu()


def _decode(runner: ModelRunner, sequence: Sequence, place: int) -> torch.Tensor:
    sequence.num_computed = place + 1
    runner._send_inputs(Plan(0, [], [sequence]), NO_PREFILL)
    # In place of the token that the step before has drawn.
    runner._table.state[sequence.row, Column.LAST_TOKEN] = sequence.tokens[place]
    return runner._graphs.decode(1).logits[:1].to("cpu", copy=True)
