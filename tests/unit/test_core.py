"""What ends the core, and what fails the requests of one step only."""

import pytest

from engine_service.block_pool import BlockPool
from engine_service.core import Core
from engine_service.core_messages import Submit
from engine_service.device import DeviceError
from engine_service.fake_runner import FakeRunner
from engine_service.scheduler import Scheduler
from engine_service.sequence import FinishReason, SequenceSpec
from support.local_core import LocalPipe


class BreakingRunner(FakeRunner):
    """Breaks in one place when a sequence with the prompt (13,) comes by.

    Attributes:
        num_checks: How often the core asked whether the device works.
    """

    def __init__(self, place, is_lost):
        super().__init__(0.0, ())
        self.num_checks = 0
        self._place = place
        self._is_lost = is_lost

    def launch(self, plan):
        self._break("launch", plan)
        return plan, super().launch(plan)

    def collect(self, launched):
        plan, outcome = launched
        self._break("collect", plan)
        return super().collect(outcome)

    def check(self):
        self.num_checks += 1
        if self._is_lost:
            raise DeviceError("cuda:0 is lost: CUDA error: unspecified launch failure")

    def _break(self, place, plan):
        if place == self._place and any(sequence.tokens[0] == 13 for sequence in plan.drawing()):
            raise RuntimeError("CUDA error: unspecified launch failure")


class Bench:
    """A core over a pipe that ends once nothing is left to do."""

    def __init__(self, runner):
        self.pipe = LocalPipe()
        self.pipe.poll = self._poll
        self.scheduler = Scheduler(BlockPool(64), block_size=4, max_num_seqs=2, max_prefill_tokens=64)
        self.core = Core(self.scheduler, runner, self.pipe)
        self.finished, self.tokens = {}, {}

    def run(self, *prompts):
        self.pipe.commands += [
            Submit((0, number), SequenceSpec(prompt, 3)) for number, prompt in enumerate(prompts)
        ]
        self.core.run()
        for record in self.pipe.records:
            for columns in record.columns.values():
                self.finished |= dict(columns.finished)
                for number, token in zip(columns.sequences, columns.tokens, strict=True):
                    self.tokens.setdefault(number, []).append(token)
        self.scheduler.check()

    def _poll(self, timeout):
        if timeout and not self.pipe.commands:
            raise EOFError
        return bool(self.pipe.commands)


@pytest.mark.parametrize("place", ["launch", "collect"])
def test_a_broken_step_fails_its_requests_and_the_core_goes_on(place):
    runner = BreakingRunner(place, is_lost=False)
    bench = Bench(runner)
    bench.run((5,), (13,), (7,), (8,))
    assert runner.num_checks >= 1
    # Two run at once: the first shares its step with the one that breaks, the others come later.
    assert bench.finished == {
        0: FinishReason.ERROR,
        1: FinishReason.ERROR,
        2: FinishReason.LENGTH,
        3: FinishReason.LENGTH,
    }
    assert bench.tokens == {2: [7, 7, 7], 3: [8, 8, 8]}
    assert bench.scheduler.load.num_free_blocks == 64


@pytest.mark.parametrize("place", ["launch", "collect"])
def test_a_lost_device_ends_the_core(place):
    bench = Bench(BreakingRunner(place, is_lost=True))
    with pytest.raises(DeviceError, match="cuda:0 is lost"):
        bench.run((5,), (13,), (7,))


def test_the_end_of_the_server_ends_the_core_quietly():
    runner = BreakingRunner("never", is_lost=True)
    Bench(runner).run((5,), (6,))
    assert runner.num_checks == 0
