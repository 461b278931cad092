"""A call whose client does not read when the service ends: it hears why, once it reads again."""

import asyncio

import grpc
import pytest

from tandem.engine.v1 import engine_pb2, engine_pb2_grpc
from tandem_service.grpc_server import options, running_server
from tandem_service.server_config import ServerConfig

# More than a connection takes in while nobody reads.
MESSAGE = engine_pb2.GenerateResponse(tokens=[1 << 30] * 50_000)
TIMEOUT_S = 20


class Flood(engine_pb2_grpc.EngineServicer):
    """Sends without end.

    Attributes:
        num_sent: Messages that were taken from it.
    """

    def __init__(self):
        self.num_sent = 0

    async def Generate(self, request, context):  # noqa: N802
        while True:
            yield MESSAGE
            self.num_sent += 1

    async def wait_until_blocked(self):
        num_sent = -1
        while self.num_sent != num_sent:
            num_sent = self.num_sent
            await asyncio.sleep(0.3)


async def _read_all(call):
    while await call.read() is not grpc.aio.EOF:
        pass


def test_a_blocked_call_hears_that_the_service_stopped():
    async def main():
        flood, config = Flood(), ServerConfig()

        def register(server):
            engine_pb2_grpc.add_EngineServicer_to_server(flood, server)

        async with (
            asyncio.timeout(TIMEOUT_S),
            running_server(config, "127.0.0.1:0", [], register, options(config, 1 << 20)) as server,
            grpc.aio.insecure_channel(server.address) as channel,
        ):
            call = engine_pb2_grpc.EngineStub(channel).Generate(engine_pb2.GenerateRequest())
            await call.read()
            await flood.wait_until_blocked()
            await server.life.end(0, 0.1, lambda: None)
            with pytest.raises(grpc.aio.AioRpcError) as end:
                await _read_all(call)
            return end.value

    error = asyncio.run(main())
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert error.details() == "the service stopped before the call ended"
