"""A device that breaks under the engine costs its requests and a restart, whatever the device."""

import contextlib
import time

import grpc
import pytest

from support.breaking_engine import POISON
from support.processes import running_service, wait_until_serving
from tandem.engine.v1 import engine_pb2 as pb, engine_pb2_grpc


def assert_restarts(checkpoint, *flags):
    """Breaks the device of a service while a sequence runs, and asks again."""
    flags = (f"--model={checkpoint}", "--max-num-seqs=4", "--kv-cache-mib=16", *flags)
    with (
        running_service("support.breaking_engine", *flags) as service,
        grpc.insecure_channel(service.address) as channel,
    ):
        stub = engine_pb2_grpc.EngineStub(channel)
        epoch, expected = _epoch(stub), _tokens(stub)
        bystander = stub.Generate(pb.GenerateRequest(spec=_spec(max_tokens=250)), timeout=60)
        next(bystander)
        for call in (stub.Generate(pb.GenerateRequest(spec=_spec(POISON)), timeout=60), bystander):
            with pytest.raises(grpc.RpcError) as error:
                list(call)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        _wait_for_another(stub, epoch)
        wait_until_serving(service)
        assert _tokens(stub) == expected
        log = service.log.read_text()
    assert "is lost: " in log
    assert "the core has ended with exit code " in log


def _spec(prompt=(1, 2, 3), max_tokens=20):
    return pb.SequenceSpec(
        token_ids=prompt, max_tokens=max_tokens, sampling={"temperature": 0.0}, ignore_eos=True
    )


def _tokens(stub):
    responses = stub.Generate(pb.GenerateRequest(spec=_spec()), timeout=60)
    return [token for response in responses for token in response.tokens]


def _epoch(stub):
    return stub.GetEngineInfo(pb.GetEngineInfoRequest()).info.epoch


def _wait_for_another(stub, epoch, timeout_s=60):
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        with contextlib.suppress(grpc.RpcError):
            if _epoch(stub) != epoch:
                return
        time.sleep(0.05)
    raise AssertionError(f"no other epoch after {timeout_s} s")
