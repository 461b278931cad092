"""Loads, one after the other, on a service that runs."""

from dataclasses import dataclass, replace

from tqdm import tqdm

from tandem_bench.bench import say
from tandem_bench.load import Lengths
from tandem_bench.serving.clients import Clients
from tandem_bench.serving.cpu import CpuWatch
from tandem_bench.serving.figures import Figures, Goal
from tandem_bench.serving.job import Job
from tandem_bench.serving.load_plan import Load
from tandem_bench.serving.timed_answer import TimedAnswer


@dataclass(frozen=True)
class Work:
    """What every load of a run has in common.

    Attributes:
        vocab_size: Prompts are of random ids below it.
        seed: Makes prompts and arrivals repeatable.
        timeout_s: The longest that a request may take.
        goal: What good requests keep to, if anybody asks.
    """

    lengths: Lengths
    vocab_size: int
    seed: str = "0"
    timeout_s: float = 600.0
    goal: Goal | None = None

    def job(self, load: Load) -> Job:
        """A load's requests."""
        return load.job(self.lengths, self.vocab_size, f"{self.seed} {load.name}", self.timeout_s)

    def warm_up(self, load: Load, num_requests: int) -> Job:
        """Requests with other prompts, as fast as the load's streams take them."""
        num_streams = load.num_streams or num_requests
        closed = replace(load, num_streams=num_streams, rate=0.0, num_requests=num_requests)
        return closed.job(self.lengths, self.vocab_size, f"{self.seed} warm-up", self.timeout_s)


def measure(clients: Clients, work: Work, load: Load, num_warm_up: int) -> Figures:
    """Runs a load after its warm-up. Ctrl-C ends it early, with the answers that there are.

    Raises:
        ClientError: A client process ended.
        KeyboardInterrupt: Ctrl-C came before the first request.
    """
    if num_warm_up:
        clients.start(work.warm_up(load, num_warm_up))
        clients.finish([])
    job, answers = work.job(load), list[TimedAnswer]()
    start_s = clients.start(job)
    say(f"{load.name}: {len(job.requests)} requests")
    watch = CpuWatch()
    was_interrupted = False
    with tqdm(total=len(job.requests), desc=load.name, unit="request", disable=None) as bar:
        try:
            clients.finish(answers, bar.update)
        except KeyboardInterrupt:
            was_interrupted = True
    return Figures(load.name, answers, start_s, watch.read(), work.goal, was_interrupted)
