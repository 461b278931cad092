"""A process with some of the clients of a load. It reads jobs from stdin and writes answers to stdout.

Run by `clients.py`. Both ways go pickles: the Server in; then, for each load, a Job in, READY out when all
connections are there, the time of the start in, TimedAnswers out as they end, DONE out; for a job with
pauses, anything in stops it.
"""

import asyncio
import itertools
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import tandem
from tandem_bench.serving.job import DONE, READY, Job
from tandem_bench.serving.server import Server
from tandem_bench.serving.timed_answer import INCOMPLETE, TimedAnswer, TimedRequest

# A connection for each stream: streams of one connection would all have the same worker.
_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]
_READY_TIMEOUT_S = 10.0
_PAUSE_S = 0.1


async def serve() -> None:
    """Does jobs until stdin ends."""
    server: Server = await _receive()
    clients: list[tandem.AsyncClient] = []
    while True:
        try:
            job: Job = await _receive()
        except EOFError:
            return
        missing = max(0, job.num_streams - len(clients))
        clients += [tandem.AsyncClient(**server, retries=0, options=_OPTIONS) for _ in range(missing)]
        used = clients[: job.num_streams]
        await asyncio.gather(*(_await_service(client) for client in used))
        _send(READY)
        start_s: float = await _receive()
        await asyncio.sleep(start_s - time.monotonic())
        await _run(job, used, start_s)
        _send(DONE)


async def _await_service(client: tandem.AsyncClient) -> None:
    """Connects; workers that serve one port are not ready all at once."""
    end_s = time.monotonic() + _READY_TIMEOUT_S
    while True:
        try:
            await client.models()
        except tandem.UnavailableError:
            if time.monotonic() > end_s:
                raise
            await asyncio.sleep(_PAUSE_S)
        else:
            return


async def _run(job: Job, clients: Sequence[tandem.AsyncClient], start_s: float) -> None:
    if job.pause_s:
        await _run_until_stopped(job, clients)
    elif job.requests and job.requests[0].due_s is not None:
        await _run_when_due(job, clients, start_s)
    else:
        requests = iter(job.requests)
        await asyncio.gather(*(_stream(client, requests, job) for client in clients))


async def _run_when_due(job: Job, clients: Sequence[tandem.AsyncClient], start_s: float) -> None:
    async with asyncio.TaskGroup() as group:
        for request, client in zip(job.requests, itertools.cycle(clients), strict=False):
            assert request.due_s is not None
            await asyncio.sleep(max(0.0, start_s + request.due_s - time.monotonic()))
            group.create_task(_answer(client, request, job))


async def _run_until_stopped(job: Job, clients: Sequence[tandem.AsyncClient]) -> None:
    stopped = asyncio.Event()
    requests = itertools.takewhile(lambda _: not stopped.is_set(), itertools.cycle(job.requests))
    streams = asyncio.gather(*(_stream(client, requests, job, stopped) for client in clients))
    await _receive()
    stopped.set()
    await streams


async def _stream(
    client: tandem.AsyncClient,
    requests: Iterator[TimedRequest],
    job: Job,
    stopped: asyncio.Event | None = None,
) -> None:
    """One request after the other."""
    for request in requests:
        await _answer(client, request, job, stopped)


async def _answer(
    client: tandem.AsyncClient, request: TimedRequest, job: Job, stopped: asyncio.Event | None = None
) -> None:
    answer = TimedAnswer(len(request.token_ids), time.monotonic())
    stream = client.stream(
        token_ids=request.token_ids,
        max_tokens=request.num_output,
        temperature=0.0,
        ignore_eos=True,
        timeout=job.timeout_s,
    )
    try:
        async for event in stream:
            if isinstance(event, tandem.Delta):
                answer.arrivals_s.append(time.monotonic())
                answer.num_tokens += event.num_tokens
            elif isinstance(event, tandem.Finished):
                answer.core_ms = event.timings.queue_ms + event.timings.prefill_ms
            if stopped is not None and not stopped.is_set():
                await _pause(job.pause_s, stopped)
        if answer.num_tokens != request.num_output:
            answer.status = INCOMPLETE
    except tandem.TandemError as error:
        answer.status = error.status.name
    answer.end_s = time.monotonic()
    _send(answer)


async def _pause(seconds: float, stopped: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stopped.wait()
    except TimeoutError:
        return


async def _receive() -> Any:
    return await asyncio.to_thread(pickle.load, sys.stdin.buffer)


def _send(message: object) -> None:
    pickle.dump(message, sys.stdout.buffer)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(serve())
