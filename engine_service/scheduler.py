"""Which sequence computes what in the next step. Pure Python, no tensors.

A step may be planned before the tokens of the step before it are read back: a decoding sequence then
has one token in flight, and its next step takes that token as input on the device. Stopping is
therefore one step late, and the surplus token is dropped here.
"""

import time
from collections.abc import Callable, Sequence as Items

from engine_service.block_pool import BlockPool
from engine_service.deadlines import Deadlines
from engine_service.image_store import ImageStore
from engine_service.places import Places
from engine_service.plan import Counts, Load, Outcome, Plan, PrefillChunk, Rates, StepColumns
from engine_service.sequence import FinishReason, Logprobs, Sequence, SequenceKey, SequenceSpec, State
from engine_service.sequence_blocks import SequenceBlocks
from engine_service.step_report import StepReport
from engine_service.throughput import Throughput
from engine_service.waiting_queue import WaitingQueue


class Scheduler:
    """First come first served within priority; prefill in chunks between decode steps.

    A sequence that needs a block when none is free takes the blocks of the last one in order, which
    waits again and computes its tokens anew.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        block_size: int,
        max_num_seqs: int,
        max_prefill_tokens: int,
        eos_ids: Items[int] = (),
        prefix_caching: bool = True,
        images: ImageStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """An idle scheduler.

        Args:
            pool: The KV cache's blocks; it must hold the longest sequence that is added.
            block_size: Slots of a block.
            max_num_seqs: Sequences that hold blocks at once.
            max_prefill_tokens: Prompt tokens of one step; every decoding sequence adds one more.
            eos_ids: End-of-sequence ids of the model.
            prefix_caching: Whether known blocks are shared.
            images: Where images are, for a model with vision.
            clock: Seconds, for deadlines and timings.
        """
        self._pool = pool
        self._blocks = SequenceBlocks(pool, block_size, prefix_caching=prefix_caching)
        self._block_size = block_size
        self._max_prefill_tokens = max_prefill_tokens
        self._eos_ids = eos_ids
        self._images = images or ImageStore(0, 1, 0, 0)
        self._clock = clock
        self._sequences: dict[SequenceKey, Sequence] = {}
        self._queue = WaitingQueue(self._images)
        self._places = Places(max_num_seqs)
        self._deadlines = Deadlines()
        self._throughput = Throughput(max_prefill_tokens)
        self._num_arrived = 0
        self._step = 0
        self._report = StepReport()
        self._too_little: tuple[Sequence, int, int] | None = None  # what was room for the first in the queue
        self.num_preemptions = 0
        self._num_prompt_tokens = self._num_cached_tokens = self._num_prefill_tokens = 0

    def add(self, key: SequenceKey, spec: SequenceSpec) -> None:
        """Queues a new sequence under an unused key."""
        assert key not in self._sequences
        sequence = Sequence(key, spec, self._num_arrived, self._clock(), self._eos_ids)
        self._num_arrived += 1
        self._sequences[key] = sequence
        self._images.hold(spec.images)
        self._queue.add(sequence)
        self._deadlines.set(key, sequence.first_token_deadline_s)

    def put_image(self, sha256: bytes, pixels: bytes) -> None:
        """Takes the pixels of an image; sequences that waited for nothing else are queued."""
        self._images.put(sha256, pixels)
        self._queue.image_arrived(sha256)

    def cancel(self, key: SequenceKey) -> None:
        """Ends a sequence and frees its blocks, without a word to its client; unknown keys are ignored."""
        if sequence := self._sequences.get(key):
            self._remove(sequence)

    def cancel_session(self, session: int) -> None:
        """Cancels every sequence of a session."""
        for key in [key for key in self._sequences if key[0] == session]:
            self.cancel(key)

    def schedule(self) -> Plan:
        """Plans the next step and gives its sequences the blocks they need."""
        now_s = self._clock()
        for key in self._deadlines.take_passed(now_s):
            self._finish(self._sequences[key], FinishReason.DEADLINE)
        decodes, grown = self._schedule_decodes()
        prefills = self._continue_prefills(self._max_prefill_tokens)
        prefills += self._admit(self._max_prefill_tokens - sum(chunk.length for chunk in prefills))
        self._step += 1
        plan = Plan(self._step, prefills, decodes, grown, self._images.take_work())
        if not plan.is_empty:
            self._throughput.begin_step(now_s)
        return plan

    def update(self, plan: Plan, outcome: Outcome) -> None:
        """Takes in the tokens of a step."""
        has_queue = self._queue.num_sequences > self._queue.num_lacking
        self._throughput.end_step(self._clock(), plan, has_queue=has_queue)
        for place, logprobs in outcome.prompt_logprobs.items():
            self._extend_prompt_logprobs(plan.prefills[place], logprobs)
        for place, (sequence, token) in enumerate(zip(plan.drawing(), outcome.tokens, strict=True)):
            sequence.num_in_flight -= 1
            if sequence.state is not State.FINISHED:
                self._append(plan.step, sequence, token, place, outcome)

    def fail(self, plan: Plan) -> None:
        """Ends the sequences of a step that broke, and those that count on its images alone."""
        self._throughput.drop_step(self._clock())
        self._images.fail(plan.images)
        blind = {each for each in self._places.prefilling if not self._images.has_all(each.pinned)}
        for sequence in {chunk.sequence for chunk in plan.prefills} | set(plan.decodes) | blind:
            if sequence.state is not State.FINISHED:
                self._blocks.forget(sequence)
                self._finish(sequence, FinishReason.ERROR)

    def take_columns(self) -> dict[int, StepColumns]:
        """What there is to tell each session since the last call, by session."""
        return self._report.take_columns()

    def take_begun(self) -> list[SequenceKey]:
        """The sequences that left the queue since the last call; one that was preempted can do so again."""
        return self._report.take_begun()

    def take_needed_images(self) -> dict[int, list[bytes]]:
        """The images that each session is to be asked for since the last call, by session."""
        return self._queue.take_needed_images()

    def take_gone_images(self) -> list[bytes]:
        """The images that are not there any more since the last call."""
        return self._images.take_gone()

    @property
    def has_work(self) -> bool:
        """Whether any sequence is unfinished."""
        return bool(self._sequences)

    @property
    def idle_s(self) -> float | None:
        """Seconds in which there is nothing to schedule, without new commands; None for ever."""
        if len(self._sequences) > self._queue.num_lacking:
            return 0.0
        next_s = self._deadlines.next_s
        return None if next_s is None else max(0.0, next_s - self._clock())

    @property
    def load(self) -> Load:
        """How busy the engine is."""
        queue, pool = self._queue, self._pool
        num_running = len(self._sequences) - queue.num_sequences
        return Load(num_running, queue.num_sequences, pool.num_free, pool.num_blocks, queue.num_tokens)

    @property
    def rates(self) -> Rates:
        """How fast the engine was lately."""
        return self._throughput.rates

    @property
    def counts(self) -> Counts:
        """What was done so far."""
        return Counts(
            self._num_prompt_tokens,
            self._num_cached_tokens,
            self._num_prefill_tokens,
            self.num_preemptions,
            self._images.num_computed,
        )

    def check(self) -> None:
        """Asserts the invariants of blocks, rows and queues."""
        self._pool.check(sequence.blocks for sequence in self._sequences.values())
        self._images.check()
        self._places.check()
        assert all(not s.blocks for s in self._sequences.values() if s.state is State.WAITING)
        assert all(not s.pinned for s in self._sequences.values() if s.state is not State.PREFILLING)
        waiting = [s for s in self._sequences.values() if s.state in (State.WAITING, State.LACKING)]
        assert len(self._places.prefilling) + len(self._places.decoding) + len(waiting) == len(
            self._sequences
        )
        assert self._queue.num_sequences == len(waiting)
        assert self._queue.num_tokens == sum(sequence.num_prompt for sequence in waiting)
        assert self._queue.num_lacking == sum(sequence.state is State.LACKING for sequence in waiting)

    def _schedule_decodes(self) -> tuple[list[Sequence], list[Sequence]]:
        """The sequences that decode, and those of them that got a block for it."""
        decodes: list[Sequence] = []
        grown: list[Sequence] = []
        for sequence in list(self._places.decoding):
            if sequence.state is not State.DECODING:
                continue  # preempted for one before it
            if len(sequence.tokens) + sequence.num_in_flight >= sequence.token_limit:
                continue  # its last token is in flight
            if sequence.num_computed == len(sequence.blocks) * self._block_size:
                if not self._grow(sequence):
                    continue
                grown.append(sequence)
            sequence.num_computed += 1
            sequence.num_in_flight += 1
            decodes.append(sequence)
        return decodes, grown

    def _grow(self, sequence: Sequence) -> bool:
        """Gives a decoding sequence its next block; False if it was itself preempted."""
        while self._pool.num_free == 0:
            victim = self._places.last()
            self._preempt(victim)
            if victim is sequence:
                return False
        self._blocks.grow(sequence)
        return True

    def _continue_prefills(self, budget: int) -> list[PrefillChunk]:
        chunks = []
        for sequence in list(self._places.prefilling):
            if budget <= 0:
                break
            chunks.append(self._next_chunk(sequence, budget, is_first=False))
            budget -= chunks[-1].length
        return chunks

    def _admit(self, budget: int) -> list[PrefillChunk]:
        chunks = []
        while budget > 0 and self._places.has_free:
            sequence = self._queue.first()
            if sequence is None or sequence.num_in_flight or not self._give_blocks(sequence):
                break
            self._queue.take_first()
            self._begin(sequence)
            chunks.append(self._next_chunk(sequence, budget, is_first=True))
            budget -= chunks[-1].length
        return chunks

    def _give_blocks(self, sequence: Sequence) -> bool:
        """Gives a waiting sequence blocks for all its known tokens; False if there are too few."""
        # Each decoding sequence may soon need a block; do not take what would be taken back at once.
        reserve = -(-len(self._places.decoding) // self._block_size)
        room = (sequence, self._pool.num_free, reserve)
        if room == self._too_little:
            return False  # to look up its whole beginning at every step would hold the others up
        shared = self._blocks.find_prefix(sequence)
        if not self._blocks.can_give(sequence, shared, reserve):
            self._too_little = room
            return False
        self._too_little = None
        num_computed = len(shared) * self._block_size
        ahead = [image for image in sequence.spec.images if image.end > num_computed]
        if not self._images.pin(ahead):
            return False
        sequence.pinned = ahead
        self._blocks.give(sequence, shared)
        return True

    def _begin(self, sequence: Sequence) -> None:
        is_first = sequence.first_step_s is None
        if is_first:
            sequence.num_cached = min(sequence.num_computed, sequence.num_prompt)
            sequence.first_step_s = self._clock()
        self._places.enter(sequence)
        self._report.add_begun(self._step, sequence, is_first=is_first)

    def _next_chunk(self, sequence: Sequence, budget: int, *, is_first: bool) -> PrefillChunk:
        start = sequence.num_computed
        length = min(budget, len(sequence.tokens) - start)
        sequence.num_computed += length
        self._num_prefill_tokens += length
        is_last = sequence.num_computed == len(sequence.tokens)
        features = self._images.runs(sequence.pinned, start, start + length)
        if is_last:
            self._unpin(sequence)
            sequence.num_in_flight += 1
            self._places.decode(sequence)
        # The step's keys and values are stored before any attention reads them, so even a sequence
        # of the same step may share these blocks.
        self._blocks.register_full(sequence)
        return PrefillChunk(sequence, start, length, is_first, is_last, features)

    def _append(self, step: int, sequence: Sequence, token: int, place: int, outcome: Outcome) -> None:
        session, number = sequence.key
        if not sequence.is_started:
            self._report.add_started(step, sequence, self._clock())
            sequence.is_started = True
            self._num_prompt_tokens += sequence.num_prompt
            self._num_cached_tokens += sequence.num_cached
            self._deadlines.set(sequence.key, sequence.deadline_s)
        sequence.tokens.append(token)
        columns = self._report.columns_of(session, step)
        columns.sequences.append(number)
        columns.tokens.append(token)
        if place in outcome.logprobs:
            columns.logprobs[number] = outcome.logprobs[place]
        if sequence.num_computed >= (sequence.num_registered + 1) * self._block_size:
            self._blocks.register_full(sequence)
        if reason := sequence.finish_reason(token):
            self._finish(sequence, reason)

    def _extend_prompt_logprobs(self, chunk: PrefillChunk, logprobs: Logprobs) -> None:
        """Adds the entries of a chunk that are new: a preempted prompt may be cut otherwise the next time."""
        collected = chunk.sequence.prompt_logprobs
        if chunk.sequence.is_started or collected is None:
            return
        num_known = len(collected.logprobs) - chunk.start
        assert num_known >= 0, "a chunk came before the one that it follows"
        collected.extend(logprobs.behind(num_known))

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        self._report.add_finished(self._step, sequence, reason)
        self._remove(sequence)

    def _remove(self, sequence: Sequence) -> None:
        self._leave(sequence)
        self._images.release(sequence.spec.images)
        sequence.state = State.FINISHED
        self._deadlines.drop(sequence.key)
        del self._sequences[sequence.key]

    def _leave(self, sequence: Sequence) -> None:
        """Takes a sequence out of where it is; its blocks and row are free."""
        if sequence.state in (State.WAITING, State.LACKING):
            self._queue.remove(sequence)
            return
        self._unpin(sequence)
        self._places.leave(sequence)
        self._blocks.release(sequence)

    def _preempt(self, sequence: Sequence) -> None:
        self._leave(sequence)
        sequence.num_computed = sequence.num_registered = 0
        self._queue.add(sequence)
        self.num_preemptions += 1

    def _unpin(self, sequence: Sequence) -> None:
        self._images.unpin(sequence.pinned)
        sequence.pinned = []
