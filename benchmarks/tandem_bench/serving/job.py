"""What a client process is told to do, and what it says."""

from dataclasses import dataclass

from tandem_bench.serving.timed_answer import TimedRequest

READY = "ready"
DONE = "done"


@dataclass(frozen=True)
class Job:
    """Requests of one process.

    Attributes:
        requests: In the order in which they start.
        num_streams: Connections, each with one request at a time; requests that are due at a time of
            their own take turns on the connections, however many run.
        pause_s: How long a stream waits after each event. A job with pauses goes through its requests
            again and again until it is told to stop, and then reads the rest at once.
        timeout_s: The longest that a request may take.
    """

    requests: tuple[TimedRequest, ...]
    num_streams: int
    pause_s: float = 0.0
    timeout_s: float = 600.0


def shares(job: Job, num_processes: int) -> list[Job]:
    """The job in parts of the same size, one for each process; no more than there are streams."""
    count = min(num_processes, job.num_streams)
    return [
        Job(
            job.requests[place::count],
            len(range(place, job.num_streams, count)),
            job.pause_s,
            job.timeout_s,
        )
        for place in range(count)
    ]
