"""What it costs to move tokens: one message per token, one message per step, and the whole way.

    python benchmarks/token_transport.py

All three move the same number of tokens of the same number of streams from a source that is as fast as
it can be, over unix sockets on one machine:

- naive hop: a gRPC server streams one message per token per stream to a client;
- session hop: the fake engine service sends one message per step to a client, as to a tokenizer worker;
- whole way: the Python client reads streams of text from a tokenizer service before that engine.
"""

import argparse
import asyncio
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import grpc

import tandem
from tandem.engine.v1 import engine_pb2 as pb, engine_pb2_grpc
from tandem_bench.record import write_result
from tandem_demo import MODEL_DIR
from tandem_service.grpc_server import options, running_server
from tandem_service.server_config import ServerConfig
from tandem_service.termination import wait_for_termination

PROMPT = "Once upon a time there was a fox. "
NAIVE = "--serve-naive"


class NaiveEngine(engine_pb2_grpc.EngineServicer):
    """Sends every token in a message of its own."""

    async def Generate(  # noqa: N802
        self, request: pb.GenerateRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Repeats the prompt."""
        ids = request.spec.token_ids
        for place in range(request.spec.max_tokens):
            yield pb.GenerateResponse(tokens=[ids[place % len(ids)]])


async def serve_naive(listen: str) -> None:
    """Runs the naive engine until SIGTERM."""

    def register(server: grpc.aio.Server) -> None:
        engine_pb2_grpc.add_EngineServicer_to_server(NaiveEngine(), server)

    async with running_server(ServerConfig(), listen, [], register, options(ServerConfig(), 1 << 20)):
        await wait_for_termination()


async def naive_hop(address: str, num_streams: int, num_tokens: int) -> int:
    """Reads `num_streams` streams at once; returns the tokens that came."""
    spec = pb.SequenceSpec(token_ids=range(10, 20), max_tokens=num_tokens)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = engine_pb2_grpc.EngineStub(channel)

        async def read() -> int:
            call = stub.Generate(pb.GenerateRequest(spec=spec), wait_for_ready=True)
            return sum([len(response.tokens) async for response in call])

        return sum(await asyncio.gather(*(read() for _ in range(num_streams))))


async def session_hop(address: str, num_streams: int, num_tokens: int) -> int:
    """Reads `num_streams` sequences of one session; returns the tokens that came."""
    spec = pb.SequenceSpec(token_ids=range(10, 20), max_tokens=num_tokens, ignore_eos=True)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = engine_pb2_grpc.EngineStub(channel)
        info = (await stub.GetEngineInfo(pb.GetEngineInfoRequest(), wait_for_ready=True)).info
        hello = pb.ClientHello(protocol_version=1, fingerprint=info.fingerprint)
        submits = [pb.Submit(sequence=number, spec=spec) for number in range(num_streams)]
        call = stub.Session()
        await call.write(pb.SessionRequest(hello=hello, submits=submits))
        await call.done_writing()
        return sum([len(frame.step.tokens) async for frame in call])


async def whole_way(address: str, num_streams: int, num_tokens: int) -> int:
    """Reads `num_streams` streams of text with the client; returns the tokens that came."""
    async with tandem.AsyncClient(address) as client:

        async def read() -> int:
            stream = client.stream(PROMPT, max_tokens=num_tokens, ignore_eos=True)
            return sum([event.num_tokens async for event in stream if isinstance(event, tandem.Delta)])

        return sum(await asyncio.gather(*(read() for _ in range(num_streams))))


@contextlib.contextmanager
def processes(directory: Path) -> Iterator[dict[str, str]]:
    """Runs the three servers; yields their addresses."""
    names = ("naive", "engine", "tokenizer")
    address = {name: f"unix:{directory}/{name}.sock" for name in names}
    commands = [
        [__file__, NAIVE, address["naive"]],
        ["-m", "engine_service", "--fake", "--fake-rate=0", f"--listen={address['engine']}"],
        ["-m", "tokenizer_service", f"--engine={address['engine']}", f"--listen={address['tokenizer']}"],
    ]
    commands[1].append(f"--model={MODEL_DIR}")
    commands[2].append(f"--model={MODEL_DIR}")
    with open(directory / "log", "wb") as log:
        running = [subprocess.Popen([sys.executable, *command], stderr=log) for command in commands]
    try:
        yield address
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


async def wait_until_serving(address: str) -> None:
    """Returns when the tokenizer service has its engine."""
    async with tandem.AsyncClient(address) as client:
        while True:
            with contextlib.suppress(tandem.TandemError):
                await client.generate(PROMPT, max_tokens=1, timeout=10)
                return
            await asyncio.sleep(0.2)


async def tokens_per_second(
    way: Callable[[str, int, int], Awaitable[int]], address: str, num_streams: int, num_tokens: int, runs: int
) -> list[float]:
    """The rate of each run after a warm-up."""
    await way(address, num_streams, num_tokens // 10)
    rates = []
    for _ in range(runs):
        start_s = time.perf_counter()
        moved = await way(address, num_streams, num_tokens)
        rates.append(moved / (time.perf_counter() - start_s))
        assert moved == num_streams * num_tokens, f"{moved} tokens came"
    return rates


async def measure(num_streams: int, num_tokens: int, runs: int) -> dict[str, object]:
    """All three ways, in the same run."""
    figures: dict[str, object] = {"num_streams": num_streams, "tokens_per_stream": num_tokens}
    ways = {"naive_hop": (naive_hop, "naive"), "session_hop": (session_hop, "engine")}
    ways["whole_way"] = (whole_way, "tokenizer")
    with tempfile.TemporaryDirectory() as directory, processes(Path(directory)) as address:
        await wait_until_serving(address["tokenizer"])
        medians = {}
        for name, (way, server) in ways.items():
            rates = await tokens_per_second(way, address[server], num_streams, num_tokens, runs)
            medians[name] = statistics.median(rates)
            figures[f"{name}_tokens_per_s"] = [round(rate) for rate in rates]
            print(f"{name}: {medians[name]:,.0f} tokens/s")
    for name in ("session_hop", "whole_way"):
        figures[f"{name}_over_naive_hop"] = round(medians[name] / medians["naive_hop"], 1)
        print(f"{name} is {figures[f'{name}_over_naive_hop']} times the naive hop")
    return figures


def main() -> None:
    """Measures and writes results/token_transport.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, default=64, help="streams at once (default 64)")
    parser.add_argument("--tokens", type=int, default=1000, help="tokens of each stream (default 1000)")
    parser.add_argument("--runs", type=int, default=5, help="counted runs of each way (default 5)")
    parser.add_argument(NAIVE, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.serve_naive:
        asyncio.run(serve_naive(flags.serve_naive))
        return
    figures = asyncio.run(measure(flags.streams, flags.tokens, flags.runs))
    print(write_result("token_transport", figures))


if __name__ == "__main__":
    main()
