"""What a connection may do. gRPC ignores options that it does not know, so each one is seen at work."""

import asyncio
import contextlib
import os

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from support.http2_peer import Http2Peer
from tandem_service.grpc_server import options, running_server
from tandem_service.server_config import ServerConfig

# A client may ping every 10 s for 2 minutes: TANDEM_PING_PERIOD_S=10. With gRPC's own bound on pings the
# connection ends before the last of them.
PING_PERIOD_S = float(os.environ.get("TANDEM_PING_PERIOD_S", "0.3"))
NUM_PINGS = 12
TIMEOUT_S = 20


@contextlib.asynccontextmanager
async def _server(**flags):
    config = ServerConfig(**flags)
    async with running_server(
        config, "127.0.0.1:0", [], lambda server: None, options(config, 1 << 20)
    ) as server:
        yield server


@contextlib.asynccontextmanager
async def _channel(server, **channel_options):
    channel_options["use_local_subchannel_pool"] = 1
    named = [(f"grpc.{name}", value) for name, value in channel_options.items()]
    async with grpc.aio.insecure_channel(server.address, named) as channel:
        yield channel


def _watch(channel):
    """A stream that says something once and then stays."""
    return health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())


async def _end_of(call):
    """The status of a call that shall end soon."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            try:
                if await call.read() is grpc.aio.EOF:
                    return await call.code()
            except grpc.aio.AioRpcError as error:
                return error.code()


def test_more_calls_than_a_connection_may_have_wait():
    async def main():
        async with _server(max_streams=1) as server, _channel(server) as channel:
            first = _watch(channel)
            await first.read()
            waiting = asyncio.create_task(_watch(channel).read())
            await asyncio.wait([waiting], timeout=0.3)
            assert not waiting.done()
            first.cancel()
            async with asyncio.timeout(TIMEOUT_S):
                await waiting

    asyncio.run(main())


def test_an_idle_connection_is_closed():
    async def main():
        async with (
            _server(max_connection_idle_s=0.2) as server,
            Http2Peer.connected(server.address, answers_pings=True) as peer,
        ):
            async with asyncio.timeout(TIMEOUT_S):
                await peer.read_until_closed()
            return peer.was_sent_away

    assert asyncio.run(main())


def test_an_old_connection_ends_with_its_calls():
    async def main():
        flags = {"max_connection_age_s": 0.2, "max_connection_age_grace_s": 0.2}
        async with _server(**flags) as server, _channel(server) as channel:
            return await _end_of(_watch(channel))

    assert asyncio.run(main()) is grpc.StatusCode.UNAVAILABLE


def test_the_calls_of_an_old_connection_get_their_grace_time():
    async def main():
        flags = {"max_connection_age_s": 0.2, "max_connection_age_grace_s": 60}
        async with _server(**flags) as server, _channel(server) as channel:
            call = _watch(channel)
            await call.read()
            await asyncio.sleep(1)
            server.health.set_ready(True)
            async with asyncio.timeout(TIMEOUT_S):
                return await call.read()

    assert asyncio.run(main()).status == health_pb2.HealthCheckResponse.SERVING


def test_a_peer_that_answers_no_ping_is_gone():
    async def main():
        async with (
            _server(keepalive_s=1, keepalive_timeout_s=1) as server,
            Http2Peer.connected(server.address, answers_pings=False) as peer,
        ):
            async with asyncio.timeout(TIMEOUT_S):
                await peer.read_until_closed()
            return peer.num_pings

    assert asyncio.run(main()) == 1


def test_a_silent_peer_that_answers_pings_stays():
    async def main():
        async with (
            _server(keepalive_s=1, keepalive_timeout_s=1) as server,
            Http2Peer.connected(server.address, answers_pings=True) as peer,
        ):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(4.5):
                    await peer.read_until_closed()
            return peer.num_pings

    assert asyncio.run(main()) >= 3


@pytest.mark.timeout(NUM_PINGS * PING_PERIOD_S + 60)
def test_a_client_that_pings_often_keeps_its_stream():
    async def main():
        pings = {"keepalive_time_ms": round(PING_PERIOD_S * 1000), "keepalive_permit_without_calls": 1}
        async with (
            _server() as server,
            _channel(server, **pings, **{"http2.max_pings_without_data": 0}) as channel,
        ):
            call = _watch(channel)
            await call.read()
            await asyncio.sleep(NUM_PINGS * PING_PERIOD_S)
            server.health.set_ready(True)
            async with asyncio.timeout(TIMEOUT_S):
                return await call.read()

    assert asyncio.run(main()).status == health_pb2.HealthCheckResponse.SERVING


def test_an_address_that_is_taken_is_named():
    async def main():
        async with _server() as server:
            with pytest.raises(ValueError, match=f"listen='{server.address}'"):
                async with running_server(ServerConfig(), server.address, [], lambda server: None, []):
                    pass

    asyncio.run(main())
