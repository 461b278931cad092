"""What is needed to submit a sequence to the engine, again if the engine is lost."""

from tandem.engine.v1 import engine_pb2
from tokenizer_service.engine_conversion import to_spec, to_timeout_ms
from tokenizer_service.engine_info import SequenceSpec
from tokenizer_service.engine_sequence import EngineSequence
from tokenizer_service.pixels import Pixels


class Submission:
    """A sequence as it is asked of the engine: behind what has already arrived of it.

    Attributes:
        sequence: Where its tokens arrive.
        images: The pixels that the engine must have first.
        num_losses: How often an engine was lost that had it.
    """

    def __init__(self, sequence: EngineSequence, spec: SequenceSpec, deadline_s: float | None) -> None:
        """`deadline_s` is when the call ends that starts it, on the loop's clock."""
        self.sequence = sequence
        self.images: tuple[Pixels, ...] = tuple(each.pixels for each in spec.images)
        self.num_losses = 0
        self._spec = to_spec(spec)
        self._deadline_s = deadline_s
        self._first_token_deadline_s = spec.first_token_deadline_s

    @property
    def num_ids(self) -> int:
        """How many token ids its message has."""
        return len(self._spec.token_ids) + len(self.sequence.output)

    @property
    def first_token_deadline_s(self) -> float | None:
        """When the first token must be there, on the loop's clock; None once it is, or where it is free."""
        return None if self.sequence.has_started else self._first_token_deadline_s

    def write_to(self, request: engine_pb2.SessionRequest, now_s: float) -> None:
        """Adds it to a message. What came with the first token is not asked for again once it is there."""
        submit = request.submits.add(sequence=self.sequence.number, spec=self._spec)
        if self.sequence.has_started:
            submit.spec.output_token_ids.extend(self.sequence.output)
            submit.spec.ClearField("prompt_logprobs")
        elif self.first_token_deadline_s is not None:
            submit.spec.first_token_timeout_ms = to_timeout_ms(self.first_token_deadline_s - now_s)
        # What may overrun its deadline is refused for it, and that once only.
        is_bound = not (self._spec.may_overrun and self.num_losses)
        if self._deadline_s is not None and is_bound:
            submit.spec.timeout_ms = to_timeout_ms(self._deadline_s - now_s)
