"""A tokenizer process that is stopped: the engine waits for it with bounded memory, and not for ever."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc

from support.cli_process import environment
from support.processes import running_service
from tandem.engine.v1 import engine_pb2 as pb, engine_pb2_grpc

NUM_SEQUENCES = 64
NUM_TOKENS = 1000
# The tokens of all sequences, as Python keeps them, and what the allocator adds.
MAX_GROWTH_MIB = 8
# A session of its own process: says when it has begun, and at its end how many messages and tokens came.
PEER = """
import sys, grpc
from tandem.engine.v1 import engine_pb2 as pb, engine_pb2_grpc

address, num_sequences, num_tokens = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with grpc.insecure_channel(address) as channel:
    stub = engine_pb2_grpc.EngineStub(channel)
    fingerprint = stub.GetEngineInfo(pb.GetEngineInfoRequest()).info.fingerprint
    request = pb.SessionRequest(hello=pb.ClientHello(protocol_version=1, fingerprint=fingerprint))
    for number in range(num_sequences):
        spec = pb.SequenceSpec(token_ids=[7, 8, 9], max_tokens=num_tokens, ignore_eos=True)
        request.submits.add(sequence=number, spec=spec)
    messages = tokens = 0
    for frame in stub.Session(iter([request])):
        messages += frame.HasField("step")
        tokens += len(frame.step.tokens)
        if messages == 1:
            print("begun", flush=True)
    print(messages, tokens)
"""


@contextlib.contextmanager
def _stopped_peer(engine):
    """A peer that has read something and is then stopped."""
    process = subprocess.Popen(
        [sys.executable, "-c", PEER, engine.address, str(NUM_SEQUENCES), str(NUM_TOKENS)],
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    try:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.communicate()


def _memory_mib(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _wait_until_free(stub, timeout_s):
    deadline_s = time.monotonic() + timeout_s
    while (load := stub.GetLoad(pb.GetLoadRequest()).load).num_free_blocks < load.num_blocks:
        assert time.monotonic() < deadline_s, load
        time.sleep(0.05)


def _generate(stub, num_tokens):
    spec = pb.SequenceSpec(token_ids=[5, 6], max_tokens=num_tokens, ignore_eos=True)
    responses = stub.Generate(pb.GenerateRequest(spec=spec), timeout=60)
    return [token for response in responses for token in response.tokens]


def test_a_stopped_peer_keeps_nobody_waiting_and_gets_every_token_in_few_messages():
    with (
        running_service("engine_service", "--fake", "--fake-rate=500") as engine,
        grpc.insecure_channel(engine.address) as channel,
    ):
        stub = engine_pb2_grpc.EngineStub(channel)
        _generate(stub, 20)
        before_mib = _memory_mib(engine.process)
        with _stopped_peer(engine) as peer:
            assert _generate(stub, 50) == [5, 6] * 25
            _wait_until_free(stub, timeout_s=60)
            assert _memory_mib(engine.process) - before_mib < MAX_GROWTH_MIB
            peer.send_signal(signal.SIGCONT)
            messages, tokens = map(int, peer.communicate(timeout=30)[0].split())
    assert tokens == NUM_SEQUENCES * NUM_TOKENS
    assert messages < NUM_TOKENS / 2


def test_a_peer_that_stays_stopped_loses_its_session():
    flags = ("--fake", "--fake-rate=10", "--keepalive-s=1", "--keepalive-timeout-s=1")
    with (
        running_service("engine_service", *flags) as engine,
        grpc.insecure_channel(engine.address) as channel,
        _stopped_peer(engine),
    ):
        stub = engine_pb2_grpc.EngineStub(channel)
        assert stub.GetLoad(pb.GetLoadRequest()).load.num_running > 0
        # Long before the sequences would have ended.
        _wait_until_free(stub, timeout_s=20)
