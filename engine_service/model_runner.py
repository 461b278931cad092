"""Runs plans on the device. The one owner of the model's tensors."""

from dataclasses import dataclass, field

import torch

from engine_service.cuda_graph import GraphedSteps
from engine_service.device import check_device
from engine_service.image_encoder import ImageEncoder
from engine_service.log_probabilities import log_probabilities, to_logprobs
from engine_service.model_steps import Drawn, ModelSteps
from engine_service.plan import Outcome, Plan, PrefillChunk
from engine_service.readback import Readback
from engine_service.sequence import Logprobs, Sequence
from engine_service.step_words import PrefillShape, step_words
from engine_service.upload import Upload

# Rows of logits that prompt log-probabilities take at once; 256 rows of 128k ids are 128 MiB.
LOGPROB_ROWS = 256


@dataclass
class Launched:
    """A step on its way; tensors are the host's copies, valid once `results` has waited.

    Attributes:
        tokens: The drawn ids, in the order of Plan.drawing(); one tensor for each batch.
        logprobs: The entries of a batch, and the sequences' places in Plan.drawing() and candidates.
        prompt_logprobs: Parts of a chunk's entries, its place in Plan.prefills and candidates.
    """

    results: Readback
    tokens: list[torch.Tensor] = field(default_factory=list)
    logprobs: list[tuple[torch.Tensor, list[tuple[int, int]]]] = field(default_factory=list)
    prompt_logprobs: list[tuple[torch.Tensor, int, int]] = field(default_factory=list)


class ModelRunner:
    """A model, its KV cache and the state of its running sequences."""

    def __init__(
        self, steps: ModelSteps, graphs: GraphedSteps, upload: Upload, images: ImageEncoder | None = None
    ) -> None:
        """`graphs` are those of `steps`, whose input is `upload`; `images` for a model with vision."""
        self._model = steps.model
        self._cache = steps.cache
        self._table = steps.table
        self._graphs = graphs
        self._upload = upload
        self._images = images
        self._device = upload.words.device

    @property
    def num_blocks(self) -> int:
        """Blocks of the KV cache."""
        return self._cache.num_blocks

    @property
    def num_images(self) -> int:
        """Images whose features have a place; 0 for a model of text only."""
        return self._images.num_images if self._images else 0

    @property
    def dtype(self) -> str:
        """Type of the weights, for example "float32"."""
        return str(self._cache.keys.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """Where it runs, for example "cpu"."""
        return str(self._device)

    @torch.inference_mode()
    def launch(self, plan: Plan) -> Launched:
        """Starts the images that chunks need, the chunks, then the decoding sequences; on a GPU returns
        before they are done.
        """
        shape = self._graphs.prefill_shape(PrefillShape.of(plan.prefills))
        self._send_inputs(plan, shape)
        if plan.images:
            assert self._images is not None
            self._images.encode(plan.images)
        launched = Launched(Readback(self._device))
        if plan.prefills:
            drawn = self._graphs.prefill(shape)
            self._take(drawn, [chunk.sequence for chunk in plan.prefills if chunk.is_last], launched)
            if shape.is_whole:
                self._take_prompt_logprobs(plan.prefills, drawn.residual, launched)
        if plan.decodes:
            self._take(self._graphs.decode(len(plan.decodes)), plan.decodes, launched)
        launched.results.end()
        return launched

    def collect(self, launched: Launched) -> Outcome:
        """Waits for a step."""
        launched.results.wait()
        outcome = Outcome([token for part in launched.tokens for token in part.tolist()])
        for entries, takers in launched.logprobs:
            for row, (place, num_candidates) in zip(entries, takers, strict=True):
                outcome.logprobs[place] = to_logprobs(row[None], num_candidates)
        for entries, place, num_candidates in launched.prompt_logprobs:
            collected = outcome.prompt_logprobs.setdefault(place, Logprobs(num_candidates))
            collected.extend(to_logprobs(entries, num_candidates))
        return outcome

    def check(self) -> None:
        """Sees whether the device still works after something went wrong.

        Raises:
            DeviceError: It does not; this process cannot use it any more.
        """
        check_device(self._device)

    def _send_inputs(self, plan: Plan, shape: PrefillShape) -> None:
        self._table.take_changes()  # those of a launch that broke
        for chunk in plan.prefills:
            if chunk.is_first:
                self._table.set_row(chunk.sequence)
        for sequence in plan.grown:
            self._table.add_blocks(sequence, len(sequence.blocks) - 1)
        self._upload.send(step_words(plan, shape, self._table.scratch_row), self._table)

    def _take(self, drawn: Drawn, sequences: list[Sequence], launched: Launched) -> None:
        """Fetches what was drawn for `sequences`, behind which there may be padding."""
        first_place = sum(len(part) for part in launched.tokens)
        launched.tokens.append(launched.results.fetch(drawn.tokens[: len(sequences)]))
        asking = [index for index, each in enumerate(sequences) if each.spec.logprobs is not None]
        if asking:
            takers = [(first_place + index, sequences[index].spec.logprobs or 0) for index in asking]
            rows = self._to_device(asking)
            most = max(num_candidates for _, num_candidates in takers)
            entries = log_probabilities(drawn.logits[rows], drawn.tokens[rows], most)
            launched.logprobs.append((launched.results.fetch(entries), takers))

    def _take_prompt_logprobs(
        self,
        chunks: list[PrefillChunk],
        residual: torch.Tensor,  # [num_tokens, hidden_size]
        launched: Launched,
    ) -> None:
        """Fetches entries for the prompt tokens that each chunk's places predict."""
        begin = 0
        for place, chunk in enumerate(chunks):
            wanted = chunk.sequence.prompt_logprobs
            if wanted is not None and chunk.sequence.wants_prompt_logprobs:
                predicted = chunk.sequence.tokens[chunk.start + 1 : chunk.start + chunk.length + 1]
                for start in range(0, len(predicted), LOGPROB_ROWS):
                    part = self._to_device(predicted[start : start + LOGPROB_ROWS])
                    rows = residual[begin + start : begin + start + len(part)]
                    entries = log_probabilities(self._prompt_logits(rows), part, wanted.num_candidates)
                    fetched = launched.results.fetch(entries)
                    launched.prompt_logprobs.append((fetched, place, wanted.num_candidates))
            begin += chunk.length

    def _prompt_logits(
        self,
        residual: torch.Tensor,  # [num_tokens, hidden_size]
    ) -> torch.Tensor:  # [num_tokens, vocab_size]
        shape = (len(residual), self._table.token_counts.shape[1])
        return self._model.logits(residual, torch.empty(shape, dtype=torch.float32, device=self._device))

    def _to_device(self, values: list[int]) -> torch.Tensor:  # [len(values)] int64
        is_pinned = self._device.type == "cuda"
        return torch.tensor(values, pin_memory=is_pinned).to(self._device, non_blocking=True)
