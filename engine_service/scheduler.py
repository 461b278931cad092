"""Which sequence computes what in the next step. Pure Python, no tensors.

A step may be planned before the tokens of the step before it are read back: a decoding sequence then
has one token in flight, and its next step takes that token as input on the device. Stopping is
therefore one step late, and the surplus token is dropped here.
"""

import heapq
import time
from bisect import insort
from collections.abc import Callable, Sequence as Items

from engine_service.block_pool import ROOT_DIGEST, BlockPool, block_digest
from engine_service.image_ref import content_of
from engine_service.image_store import ImageStore
from engine_service.image_waiters import ImageWaiters
from engine_service.plan import Load, Outcome, Plan, PrefillChunk, Started, StepColumns
from engine_service.sequence import FinishReason, Logprobs, Sequence, SequenceKey, SequenceSpec, State


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
        self._block_size = block_size
        self._max_prefill_tokens = max_prefill_tokens
        self._eos_ids = eos_ids
        self._prefix_caching = prefix_caching
        self._images = images or ImageStore(0, 1, 0, 0)
        self._waiters = ImageWaiters()
        self._clock = clock
        self._sequences: dict[SequenceKey, Sequence] = {}
        self._waiting: list[tuple[tuple[int, int], Sequence]] = []
        self._num_waiting = 0
        self._prefilling: list[Sequence] = []
        self._decoding: list[Sequence] = []
        self._deadlines: list[tuple[float, SequenceKey]] = []
        self._free_rows = list(range(max_num_seqs - 1, -1, -1))
        self._num_arrived = 0
        self._step = 0
        self._columns: dict[int, StepColumns] = {}
        self.num_preemptions = 0

    def add(self, key: SequenceKey, spec: SequenceSpec) -> None:
        """Queues a new sequence under an unused key."""
        assert key not in self._sequences
        sequence = Sequence(key, spec, self._num_arrived, self._clock(), self._eos_ids)
        self._num_arrived += 1
        self._sequences[key] = sequence
        self._images.hold(spec.images)
        self._enqueue(sequence)
        if sequence.deadline_s is not None:
            heapq.heappush(self._deadlines, (sequence.deadline_s, key))

    def put_image(self, sha256: bytes, pixels: bytes) -> None:
        """Takes the pixels of an image; sequences that waited for nothing else are queued."""
        self._images.put(sha256, pixels)
        for sequence in self._waiters.arrived(sha256):
            if missing := self._missing(sequence):
                self._waiters.add(sequence, missing)
            else:
                self._leave(sequence)
                self._enqueue(sequence)

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
        self._end_late()
        decodes, grown = self._schedule_decodes()
        prefills = self._continue_prefills(self._max_prefill_tokens)
        prefills += self._admit(self._max_prefill_tokens - sum(chunk.length for chunk in prefills))
        self._step += 1
        return Plan(self._step, prefills, decodes, grown, self._images.take_work())

    def update(self, plan: Plan, outcome: Outcome) -> None:
        """Takes in the tokens of a step."""
        for place, logprobs in outcome.prompt_logprobs.items():
            self._extend_prompt_logprobs(plan.prefills[place], logprobs)
        for place, (sequence, token) in enumerate(zip(plan.drawing(), outcome.tokens, strict=True)):
            sequence.num_in_flight -= 1
            if sequence.state is not State.FINISHED:
                self._append(plan.step, sequence, token, place, outcome)

    def fail(self, plan: Plan) -> None:
        """Ends the sequences of a step that broke, and those that count on its images alone."""
        self._images.fail(plan.images)
        blind = {each for each in self._prefilling if not self._images.has_all(each.pinned)}
        for sequence in {chunk.sequence for chunk in plan.prefills} | set(plan.decodes) | blind:
            if sequence.state is not State.FINISHED:
                self._pool.forget(sequence.blocks)
                self._finish(sequence, FinishReason.ERROR)

    def take_columns(self) -> dict[int, StepColumns]:
        """What there is to tell each session since the last call, by session."""
        columns, self._columns = self._columns, {}
        return columns

    def take_needed_images(self) -> dict[int, list[bytes]]:
        """The images that each session is to be asked for since the last call, by session."""
        return self._waiters.take_needed()

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
        if len(self._sequences) > self._waiters.num_sequences:
            return 0.0
        return max(0.0, self._deadlines[0][0] - self._clock()) if self._deadlines else None

    @property
    def load(self) -> Load:
        """How busy the engine is."""
        num_running = len(self._sequences) - self._num_waiting
        return Load(num_running, self._num_waiting, self._pool.num_free, self._pool.num_blocks)

    def check(self) -> None:
        """Asserts the invariants of blocks, rows and queues."""
        running = self._prefilling + self._decoding
        self._pool.check(sequence.blocks for sequence in self._sequences.values())
        self._images.check()
        assert all(not s.blocks for s in self._sequences.values() if s.state is State.WAITING)
        assert all(not s.pinned for s in self._sequences.values() if s.state is not State.PREFILLING)
        assert len(running) + self._num_waiting == len(self._sequences)
        rows = [sequence.row for sequence in running]
        assert len({*rows, *self._free_rows}) == len(rows) + len(self._free_rows)

    def _schedule_decodes(self) -> tuple[list[Sequence], list[Sequence]]:
        """The sequences that decode, and those of them that got a block for it."""
        decodes: list[Sequence] = []
        grown: list[Sequence] = []
        for sequence in list(self._decoding):
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
            victim = max(self._prefilling[-1:] + self._decoding[-1:], key=lambda each: each.order)
            self._preempt(victim)
            if victim is sequence:
                return False
        sequence.blocks += self._pool.take(1)
        return True

    def _continue_prefills(self, budget: int) -> list[PrefillChunk]:
        chunks = []
        for sequence in list(self._prefilling):
            if budget <= 0:
                break
            chunks.append(self._next_chunk(sequence, budget, is_first=False))
            budget -= chunks[-1].length
        return chunks

    def _admit(self, budget: int) -> list[PrefillChunk]:
        chunks = []
        while budget > 0 and self._free_rows:
            sequence = self._peek_waiting()
            if sequence is None or sequence.num_in_flight or not self._give_blocks(sequence):
                break
            heapq.heappop(self._waiting)
            self._num_waiting -= 1
            sequence.row = self._free_rows.pop()
            sequence.state = State.PREFILLING
            if sequence.first_step_s is None:
                sequence.first_step_s = self._clock()
            insort(self._prefilling, sequence, key=lambda each: each.order)
            chunks.append(self._next_chunk(sequence, budget, is_first=True))
            budget -= chunks[-1].length
        return chunks

    def _give_blocks(self, sequence: Sequence) -> bool:
        """Gives a waiting sequence blocks for all its known tokens; False if there are too few."""
        shared = self._find_prefix(sequence)
        num_computed = len(shared) * self._block_size
        count = -(-len(sequence.tokens) // self._block_size) - len(shared)
        available = self._pool.num_free - self._pool.num_free_among(shared)
        # Each decoding sequence may soon need a block; do not take what would be taken back at once.
        reserve = -(-len(self._decoding) // self._block_size)
        if count + reserve > available:
            return False
        ahead = [image for image in sequence.spec.images if image.end > num_computed]
        if not self._images.pin(ahead):
            return False
        sequence.pinned = ahead
        self._pool.hold(shared)
        sequence.blocks = shared + self._pool.take(count)
        sequence.num_computed, sequence.num_registered = num_computed, len(shared)
        if not sequence.is_started:
            sequence.num_cached = sequence.num_computed
        return True

    def _find_prefix(self, sequence: Sequence) -> list[int]:
        """Known blocks that hold the beginning of the tokens; the last token is always computed."""
        if not self._prefix_caching or sequence.wants_prompt_logprobs:
            return []
        count = (len(sequence.tokens) - 1) // self._block_size
        return self._pool.find(self._digests(sequence, count)[:count])

    def _digests(self, sequence: Sequence, count: int) -> list[bytes]:
        """The addresses of at least the first `count` blocks, whose tokens must be known."""
        size, digests = self._block_size, sequence.digests
        while len(digests) < count:
            start = len(digests) * size
            parent = digests[-1] if digests else ROOT_DIGEST
            pictures = content_of(sequence.spec.images, start, start + size)
            digests.append(block_digest(parent, sequence.tokens[start : start + size], pictures))
        return digests

    def _next_chunk(self, sequence: Sequence, budget: int, *, is_first: bool) -> PrefillChunk:
        start = sequence.num_computed
        length = min(budget, len(sequence.tokens) - start)
        sequence.num_computed += length
        is_last = sequence.num_computed == len(sequence.tokens)
        features = self._images.runs(sequence.pinned, start, start + length)
        if is_last:
            self._unpin(sequence)
            sequence.num_in_flight += 1
            sequence.state = State.DECODING
            self._prefilling.remove(sequence)
            insort(self._decoding, sequence, key=lambda each: each.order)
        # The step's keys and values are stored before any attention reads them, so even a sequence
        # of the same step may share these blocks.
        self._register_full_blocks(sequence)
        return PrefillChunk(sequence, start, length, is_first, is_last, features)

    def _append(self, step: int, sequence: Sequence, token: int, place: int, outcome: Outcome) -> None:
        session, number = sequence.key
        columns = self._columns_of(session, step)
        if not sequence.is_started:
            self._start(sequence, columns)
        sequence.tokens.append(token)
        columns.sequences.append(number)
        columns.tokens.append(token)
        if place in outcome.logprobs:
            columns.logprobs[number] = outcome.logprobs[place]
        if sequence.num_computed >= (sequence.num_registered + 1) * self._block_size:
            self._register_full_blocks(sequence)
        if reason := sequence.finish_reason(token):
            self._finish(sequence, reason)

    def _columns_of(self, session: int, step: int) -> StepColumns:
        return self._columns.get(session) or self._columns.setdefault(session, StepColumns(step))

    def _start(self, sequence: Sequence, columns: StepColumns) -> None:
        assert sequence.first_step_s is not None
        number = sequence.key[1]
        queue_us = round((sequence.first_step_s - sequence.arrival_s) * 1e6)
        prefill_us = round((self._clock() - sequence.first_step_s) * 1e6)
        columns.started.append(Started(number, sequence.num_cached, queue_us, prefill_us))
        if sequence.prompt_logprobs is not None:
            columns.prompt_logprobs[number] = sequence.prompt_logprobs
        sequence.is_started = True

    def _register_full_blocks(self, sequence: Sequence) -> None:
        """Makes blocks known whose tokens are all known and computed, once launched steps are done."""
        if not self._prefix_caching:
            return
        count = min(sequence.num_computed, len(sequence.tokens)) // self._block_size
        digests = self._digests(sequence, count)
        for index in range(sequence.num_registered, count):
            self._pool.register(sequence.blocks[index], digests[index])
        sequence.num_registered = count

    def _extend_prompt_logprobs(self, chunk: PrefillChunk, logprobs: Logprobs) -> None:
        """Adds a chunk's entries, unless the sequence was preempted and has them already or not yet."""
        collected = chunk.sequence.prompt_logprobs
        if chunk.sequence.is_started or collected is None or len(collected.logprobs) != chunk.start:
            return
        collected.extend(logprobs)

    def _finish(self, sequence: Sequence, reason: FinishReason) -> None:
        session, number = sequence.key
        self._columns_of(session, self._step).finished.append((number, reason))
        self._remove(sequence)

    def _remove(self, sequence: Sequence) -> None:
        self._leave(sequence)
        self._images.release(sequence.spec.images)
        sequence.state = State.FINISHED
        del self._sequences[sequence.key]

    def _leave(self, sequence: Sequence) -> None:
        """Takes a sequence out of its queue; its blocks and row are free."""
        if sequence.state in (State.WAITING, State.LACKING):
            self._num_waiting -= 1
            self._waiters.remove(sequence)
            return  # its heap entry is skipped when it comes up
        self._unpin(sequence)
        (self._prefilling if sequence.state is State.PREFILLING else self._decoding).remove(sequence)
        self._pool.release(sequence.blocks)
        self._free_rows.append(sequence.row)
        sequence.blocks, sequence.row = [], -1

    def _preempt(self, sequence: Sequence) -> None:
        self._leave(sequence)
        sequence.num_computed = sequence.num_registered = 0
        self._enqueue(sequence)
        self.num_preemptions += 1

    def _enqueue(self, sequence: Sequence) -> None:
        """Puts a sequence into the queue, or beside it while images are missing."""
        self._num_waiting += 1
        if missing := self._missing(sequence):
            sequence.state = State.LACKING
            self._waiters.add(sequence, missing)
        else:
            sequence.state = State.WAITING
            heapq.heappush(self._waiting, (sequence.order, sequence))

    def _missing(self, sequence: Sequence) -> list[bytes]:
        return [each.sha256 for each in sequence.spec.images if not self._images.has(each.sha256)]

    def _unpin(self, sequence: Sequence) -> None:
        self._images.unpin(sequence.pinned)
        sequence.pinned = []

    def _peek_waiting(self) -> Sequence | None:
        """The first in order that can begin."""
        while self._waiting:
            sequence = self._waiting[0][1]
            if sequence.state is State.WAITING and not self._missing(sequence):
                return sequence
            heapq.heappop(self._waiting)
            if sequence.state is State.WAITING:  # its features gave way while it waited
                self._leave(sequence)
                self._enqueue(sequence)
        return None

    def _end_late(self) -> None:
        if not self._deadlines:
            return
        now_s = self._clock()
        while self._deadlines and self._deadlines[0][0] <= now_s:
            sequence = self._sequences.get(heapq.heappop(self._deadlines)[1])
            if sequence is not None and sequence.deadline_s is not None and sequence.deadline_s <= now_s:
                self._finish(sequence, FinishReason.DEADLINE)
