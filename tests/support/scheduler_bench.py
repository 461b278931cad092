"""A scheduler that a test steps, with a clock of its own and without a model."""

from engine_service.block_pool import BlockPool
from engine_service.plan import Outcome
from engine_service.scheduler import Scheduler
from engine_service.sequence import Logprobs, SequenceSpec


class Bench:
    """A scheduler stepped one ahead of its outcomes, as the core does; tokens are a count upwards."""

    def __init__(self, num_blocks=64, block_size=4, **options):
        self.now_s = 0.0
        self.pool = BlockPool(num_blocks)
        settings = {"max_num_seqs": 8, "max_prefill_tokens": 16} | options
        self.scheduler = Scheduler(self.pool, block_size=block_size, clock=lambda: self.now_s, **settings)
        self.previous = None
        self.tokens = {}
        self.finished = {}
        self.begun = []
        self.started = {}
        self.prompt_logprobs = {}
        self.plans = []

    def add(self, number, length=4, max_tokens=4, tokens=None, **fields):
        ids = tuple(tokens or range(1000 * number, 1000 * number + length))
        self.tokens[number] = []
        self.scheduler.add((0, number), SequenceSpec(ids, max_tokens, **fields))

    def step(self):
        plan = self.scheduler.schedule()
        self.plans.append(plan)
        previous, self.previous = self.previous, None if plan.is_empty else plan
        for sequence in [chunk.sequence for chunk in plan.prefills] + plan.decodes:
            assert sequence.num_computed <= len(sequence.blocks) * self.scheduler._block_size
        if previous is not None:
            self.scheduler.update(previous, self.outcome(previous))
        self.scheduler.check()
        for columns in self.scheduler.take_columns().values():
            for number, token in zip(columns.sequences, columns.tokens, strict=True):
                self.tokens[number].append(token)
            self.begun += columns.begun
            self.started |= {each.sequence: each for each in columns.started}
            self.finished |= dict(columns.finished)
            self.prompt_logprobs |= {n: each.logprobs for n, each in columns.prompt_logprobs.items()}

    def outcome(self, plan):
        drawing = plan.drawing()
        # What a sequence draws depends on how many tokens it has, never on the step.
        tokens = [9000 + len(sequence.tokens) for sequence in drawing]
        wanted = {
            place: _logprobs(chunk)
            for place, chunk in enumerate(plan.prefills)
            if chunk.sequence.wants_prompt_logprobs
        }
        return Outcome(tokens, prompt_logprobs=wanted)

    def run(self):
        steps = 0
        while self.scheduler.has_work or self.previous is not None:
            self.step()
            steps += 1
            assert steps < 20_000, "the scheduler does not come to an end"


def _logprobs(chunk):
    """That of the prompt's token n is n."""
    end = min(chunk.start + chunk.length + 1, chunk.sequence.num_prompt)
    return Logprobs(0, [float(place) for place in range(chunk.start + 1, end)])
