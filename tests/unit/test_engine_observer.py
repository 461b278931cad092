"""What the server process counts of a core's records, beside what the core did."""

import pytest
import torch

from engine_service.config import EngineConfig
from engine_service.observer import Observer
from engine_service.sequence import SequenceSpec
from support.checkpoints import save
from support.local_core import LocalCore
from support.pictures import picture, prompt_of, put, random_llava
from tandem_service.errors import OverloadedError, invalid


class Bench:
    """A core in this process, and an observer of its records."""

    def __init__(self, model, **flags):
        self.core = LocalCore(model, fake=True, fake_rate=0.0, **flags)
        self.observer = Observer(EngineConfig(log_requests=True))
        self.observer.ready()

    def submit(self, number, spec):
        self.observer.submitted((0, number), spec)
        self.core.submit(number, spec)

    def run(self):
        while self.core.is_busy:
            self.core.core.step()
            records, self.core.pipe.records = self.core.pipe.records, []
            for record in records:
                self.observer.stepped(record)

    def value(self, name, **labels):
        return self.observer.metrics.registry.get_sample_value(f"tandem_engine_{name}", labels)


def test_preempted_work_is_counted_again_and_its_tokens_once():
    bench = Bench("demo", num_blocks=6, max_num_seqs=4, kv_block_size=16, context_length=96)
    for number in range(4):
        bench.submit(number, SequenceSpec(tuple(range(10 + number, 26 + number)), 40, ignore_eos=True))
    bench.run()
    assert bench.value("preemptions_total") == bench.core.scheduler.num_preemptions > 0
    assert bench.value("output_tokens_total") == 4 * 40
    assert bench.value("prompt_tokens_total") == 4 * 16
    assert bench.value("prefill_tokens_total") > 4 * 16
    assert bench.value("sequences_total", reason="length") == 4
    assert bench.value("queue_seconds_count") == bench.value("decode_seconds_count") == 4
    # A step draws at most one token for each sequence.
    assert bench.value("step_seconds_count") >= 40


def test_a_known_beginning_counts_as_cached():
    bench = Bench("demo", kv_block_size=16)
    for number in range(2):
        bench.submit(number, SequenceSpec(tuple(range(40)), 3))
        bench.run()
    assert bench.value("cached_tokens_total") == 32
    assert bench.value("prompt_tokens_total") == 80
    assert bench.value("prefill_tokens_total") == 48


def test_an_image_is_computed_once(tmp_path):
    torch.manual_seed(0)
    bench = Bench(save(random_llava(), tmp_path))
    ids, images = prompt_of([picture(0), 5])
    put(bench.core, picture(0))
    for number in range(3):
        bench.submit(number, SequenceSpec(ids, 2, images=images))
    bench.run()
    assert bench.value("images_computed_total") == 1


def test_the_next_core_counts_from_0_and_the_metrics_go_on():
    bench = Bench("demo")
    bench.submit(1, SequenceSpec(tuple(range(20)), 3))
    bench.run()
    bench.submit(2, SequenceSpec(tuple(range(20)), 3))
    bench.observer.died()
    assert bench.value("sequences_total", reason="lost") == 1
    bench.core = Bench("demo").core
    bench.observer.ready()
    bench.submit(3, SequenceSpec(tuple(range(20)), 3))
    bench.run()
    assert bench.value("prompt_tokens_total") == 40
    assert bench.value("core_deaths_total") == 1


def test_a_sequence_ends_once_whoever_ends_it_first():
    bench = Bench("demo")
    bench.submit(1, SequenceSpec((9, 8), 3))
    bench.observer.ended((0, 1))
    bench.run()
    assert bench.value("sequences_total", reason="ended") == 1
    assert bench.value("sequences_total", reason="length") is None
    assert bench.value("output_tokens_total") == 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OverloadedError("full"), "RESOURCE_EXHAUSTED"), (invalid(), "INVALID_ARGUMENT")],
    ids=["full", "invalid"],
)
def test_rejects_are_counted_by_status(error, reason):
    bench = Bench("demo")
    bench.observer.rejected("a", error)
    assert bench.value("rejects_total", reason=reason) == 1
