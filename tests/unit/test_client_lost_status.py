"""What becomes of a status that grpc.aio lost, since a write met the end of the stream."""

import asyncio

import grpc
import pytest

import tandem
from tandem.async_many import AsyncResults


class LostCall:
    """Stands for a call whose stream has ended with a status that nobody knows."""

    async def write(self, message):
        raise self._error()

    async def done_writing(self):
        raise self._error()

    async def __aiter__(self):
        raise self._error()
        yield

    def done(self):
        return False

    def cancel(self):
        pass

    def _error(self):
        empty = grpc.aio.Metadata()
        return grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, empty, empty, "Internal error from Core")


def _error_with(probe):
    async def main():
        return [result async for result in AsyncResults(["one"], LostCall(), 4, probe)]

    with pytest.raises(tandem.TandemError) as error:
        asyncio.run(main())
    return error.value


def test_it_is_the_status_that_another_call_ends_with():
    refusal = tandem.UnauthenticatedError("no token", status=grpc.StatusCode.UNAUTHENTICATED)

    async def probe():
        raise refusal

    assert _error_with(probe) is refusal


def test_it_is_unavailable_where_other_calls_succeed():
    async def probe():
        pass

    error = _error_with(probe)
    assert isinstance(error, tandem.UnavailableError)
    assert error.message == "the service ended the stream"
