"""The engine's logits of known tokens: a prompt in one prefill, then a decode step for each further one."""

from dataclasses import replace
from pathlib import Path

import torch

from engine_service.config import EngineConfig
from engine_service.cuda_graph import PREFILL_TOKENS
from engine_service.loading import load_runner
from engine_service.model_config import read_model_config
from engine_service.model_runner import ModelRunner
from engine_service.plan import FeatureRun, ImageWork, Plan, PrefillChunk
from engine_service.sequence import Sequence, SequenceSpec
from engine_service.step_words import NO_PREFILL, PrefillShape
from tandem_bench.known_tokens import KnownTokens
from tandem_kernels.sequence_state import Column

BLOCK_SIZE = 16


@torch.inference_mode()
def engine_logits(
    directory: Path, known: KnownTokens, device: str, dtype: str = "bfloat16"
) -> torch.Tensor:  # [num_tokens, vocab_size] float32, on the CPU
    """The scores after each token, by the engine's own steps: as graphs where it has graphs.

    Args:
        directory: The checkpoint.
        known: The tokens of one sequence.
        device: For example "cuda".
        dtype: Of weights and KV cache.
    """
    num_blocks = -(-len(known.ids) // BLOCK_SIZE)
    config = EngineConfig(
        device=device,
        dtype=dtype,
        context_length=num_blocks * BLOCK_SIZE,
        max_num_seqs=1,
        max_prefill_tokens=max(known.num_prompt, PREFILL_TOKENS[-1]),
        kv_block_size=BLOCK_SIZE,
        num_blocks=num_blocks,
    )
    model_config = read_model_config(directory)
    runner = load_runner(config, model_config, directory, 0)
    sequence = Sequence((0, 0), SequenceSpec(known.ids, 1), 0, 0.0, ())
    sequence.blocks, sequence.row = list(range(num_blocks)), 0
    first = _prefill(runner, sequence, known, model_config.vocab_size)
    decoded = [_decode(runner, sequence, place) for place in range(known.num_prompt, len(known.ids))]
    return torch.cat([first, *decoded])


def _prefill(
    runner: ModelRunner, sequence: Sequence, known: KnownTokens, first_feature_row: int
) -> torch.Tensor:
    features: list[FeatureRun] = []
    if known.image is not None:
        assert runner._images is not None
        runner._images.encode([ImageWork(b"", 0, known.image.pixels.numpy().tobytes())])
        start = known.image.start
        features.append(FeatureRun(start, start + known.image.num_features, first_feature_row))
    chunk = PrefillChunk(sequence, 0, known.num_prompt, is_first=True, is_last=True, features=tuple(features))
    shape = runner._graphs.prefill_shape(PrefillShape.of([chunk]))
    runner._send_inputs(Plan(0, [chunk], []), shape)
    whole = runner._graphs.prefill(replace(shape, is_whole=True))
    logits = runner._prompt_logits(whole.residual[: known.num_prompt]).cpu()
    # The last row as requests have it, which compute no more than they need of the last layer.
    logits[-1] = runner._graphs.prefill(shape).logits[0].cpu()
    return logits


def _decode(runner: ModelRunner, sequence: Sequence, place: int) -> torch.Tensor:
    sequence.num_computed = place + 1
    runner._send_inputs(Plan(0, [], [sequence]), NO_PREFILL)
    # In place of the token that the step before has drawn.
    runner._table.state[sequence.row, Column.LAST_TOKEN] = sequence.tokens[place]
    return runner._graphs.decode(1).logits[:1].to("cpu", copy=True)
