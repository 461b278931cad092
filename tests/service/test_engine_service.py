"""The engine service over real sockets: sessions, ends, refusals, deaths."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import grpc
import pytest
import torch

from engine_service.sampling_params import SamplingParams
from engine_service.sequence import SequenceSpec
from support.checkpoints import random_model, save
from support.local_core import LocalCore
from support.processes import running_service, wait_until_serving
from support.python_path import with_support
from tandem.engine.v1 import engine_pb2 as pb, engine_pb2_grpc
from tandem.v1 import error_pb2

VOCAB = 97
EOS = 96


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(random_model("llama", eos_token_id=EOS), tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def engine(checkpoint):
    with running_service("engine_service", f"--model={checkpoint}", "--kv-cache-mib=64") as service:
        yield service


@pytest.fixture(scope="module")
def fake(checkpoint):
    flags = (f"--model={checkpoint}", "--fake", "--fake-rate=0", "--max-num-seqs=64", "--max-num-waiting=6")
    with running_service("engine_service", *flags) as service:
        yield service


@contextlib.contextmanager
def _stub(service):
    with grpc.insecure_channel(service.address) as channel:
        yield engine_pb2_grpc.EngineStub(channel)


def _spec(prompt=(1, 2, 3), max_tokens=8, **fields):
    fields.setdefault("sampling", {"temperature": 0.0})
    return pb.SequenceSpec(token_ids=prompt, max_tokens=max_tokens, **fields)


def _hello(**changes):
    fingerprint = {"vocab_size": VOCAB, "eos_token_ids": [EOS]} | changes
    return pb.SessionRequest(
        hello=pb.ClientHello(protocol_version=1, fingerprint=pb.Fingerprint(**fingerprint))
    )


class Collected:
    """What a session's frames said of each sequence."""

    def __init__(self):
        self.tokens, self.finished, self.rejected, self.num_steps = {}, {}, {}, 0

    def take(self, frame):
        for sequence, token in zip(frame.step.sequences, frame.step.tokens, strict=True):
            self.tokens.setdefault(sequence, []).append(token)
        self.finished |= zip(frame.step.finished_sequences, frame.step.finished_reasons, strict=True)
        self.num_steps += frame.HasField("step")
        if frame.HasField("rejected"):
            self.rejected[frame.rejected.sequence] = frame.rejected.status


def _run_session(service, *requests):
    collected = Collected()
    with _stub(service) as stub:
        for frame in stub.Session(iter(requests), timeout=60):
            collected.take(frame)
    return collected


def _with_submits(request, specs):
    for sequence, spec in specs.items():
        request.submits.add(sequence=sequence, spec=spec)
    return request


def _load_when_idle(stub):
    for _ in range(200):
        load = stub.GetLoad(pb.GetLoadRequest()).load
        if load.num_running == load.num_waiting == 0 and load.num_free_blocks == load.num_blocks:
            break
        time.sleep(0.02)
    return load


def test_a_session_tells_once_that_a_sequence_has_begun(engine):
    request = _with_submits(_hello(), {7: _spec(tuple(range(50, 90)), 4)})
    with _stub(engine) as stub:
        steps = [frame.step for frame in stub.Session(iter([request]), timeout=60) if frame.HasField("step")]
    assert (list(steps[0].begun_sequences), list(steps[0].begun_cached_tokens)) == ([7], [0])
    assert not any(step.begun_sequences for step in steps[1:])
    assert [list(step.started_sequences) for step in steps if step.started_sequences] == [[7]]


def test_a_session_gives_the_tokens_of_the_model(engine, checkpoint):
    core = LocalCore(checkpoint)
    prompts = {2: (1, 2, 3), 7: (50, 60), 9: tuple(range(40))}
    specs = {number: _spec(prompt, ignore_eos=True) for number, prompt in prompts.items()}
    collected = _run_session(engine, _with_submits(_hello(), specs))
    for number, prompt in prompts.items():
        spec = SequenceSpec(prompt, 8, SamplingParams(temperature=0.0), ignore_eos=True)
        assert collected.tokens[number] == core.generate(spec)
        assert collected.finished[number] == 1  # LENGTH


def test_generate_gives_the_same_tokens_as_a_session(engine):
    spec = _spec(tuple(range(20)), logprobs=2, prompt_logprobs=1)
    expected = _run_session(engine, _with_submits(_hello(), {1: spec})).tokens[1]
    with _stub(engine) as stub:
        responses = list(stub.Generate(pb.GenerateRequest(spec=spec)))
    assert [token for response in responses for token in response.tokens] == expected
    assert responses[-1].finish_reason in (1, 2)
    assert sum(len(response.logprobs.logprobs) for response in responses) == len(expected)
    assert len(responses[0].prompt_logprobs.logprobs) == 19


def test_engine_info_describes_the_model(engine, checkpoint):
    with _stub(engine) as stub:
        info = stub.GetEngineInfo(pb.GetEngineInfoRequest()).info
    assert (info.model, info.architecture) == (checkpoint.name, "LlamaForCausalLM")
    assert (info.context_length, info.fingerprint.vocab_size) == (256, VOCAB)
    assert (info.dtype, info.device, info.has_vision) == ("float32", "cpu", False)
    assert list(info.fingerprint.eos_token_ids) == [EOS]


@pytest.mark.parametrize("num_sequences", [1, 64])
def test_messages_do_not_grow_with_the_number_of_sequences(fake, num_sequences):
    specs = {number: _spec(max_tokens=100) for number in range(num_sequences)}
    collected = _run_session(fake, _with_submits(_hello(), specs))
    assert all(len(tokens) == 100 for tokens in collected.tokens.values())
    assert len(collected.tokens) == num_sequences
    # One message at most for each step that draws a token.
    assert collected.num_steps <= 100


@pytest.mark.parametrize("command", ["cancels", "stops"])
def test_an_ended_sequence_is_silent_and_leaves_no_block(engine, command):
    with _stub(engine) as stub:
        more = []

        def requests():
            yield _with_submits(
                _hello(), {1: _spec(max_tokens=250, ignore_eos=True), 2: _spec(max_tokens=60)}
            )
            while not more:
                time.sleep(0.01)
            yield more[0]

        collected = Collected()
        for frame in stub.Session(requests(), timeout=60):
            collected.take(frame)
            if len(collected.tokens.get(1, [])) >= 3 and not more:
                end = (
                    {"cancels": [1, 99]}
                    if command == "cancels"
                    else {"stops": [{"sequence": 1, "num_tokens": 2}]}
                )
                more.append(pb.SessionRequest(**end))
        assert 1 not in collected.finished
        assert len(collected.tokens[1]) < 250
        assert 2 in collected.finished
        assert _load_when_idle(stub).num_free_blocks == _load_when_idle(stub).num_blocks


def test_a_dropped_connection_cancels_its_sequences(engine):
    channel = grpc.insecure_channel(engine.address)
    request = _with_submits(_hello(), {n: _spec(max_tokens=250, ignore_eos=True) for n in range(20)})
    call = engine_pb2_grpc.EngineStub(channel).Session(iter([request]), timeout=60)
    next(call), next(call)
    channel.close()
    with _stub(engine) as stub:
        load = _load_when_idle(stub)
    assert (load.num_running, load.num_free_blocks) == (0, load.num_blocks)


def test_a_deadline_ends_the_sequence_with_its_reason(engine):
    spec = _spec(max_tokens=250, timeout_ms=1, ignore_eos=True)
    collected = _run_session(engine, _with_submits(_hello(), {1: spec}))
    assert collected.finished == {1: 6}  # DEADLINE


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        pytest.param(_spec(()), "token_ids", "empty", id="empty-prompt"),
        pytest.param(_spec((1, VOCAB)), "token_ids", "97", id="id-past-vocabulary"),
        pytest.param(_spec(max_tokens=0), "max_tokens", "0", id="no-tokens"),
        pytest.param(_spec(max_tokens=254), "max_tokens", "256", id="one-past-context"),
        pytest.param(_spec(sampling={"top_p": 0.0}), "sampling.top_p", "(0, 1]", id="top-p-0"),
        pytest.param(_spec(sampling={"top_p": 1.5}), "sampling.top_p", "1.5", id="top-p-1.5"),
        pytest.param(_spec(sampling={"temperature": float("nan")}), "sampling.temperature", "nan", id="nan"),
        pytest.param(_spec(sampling={"top_k": -1}), "sampling.top_k", "-1", id="top-k-negative"),
        pytest.param(_spec(sampling={"logit_bias": {97: 1.0}}), "sampling.logit_bias", "97", id="bias-id"),
        pytest.param(_spec(stop_token_ids=range(65)), "stop_token_ids", "at most 64", id="65-stop-ids"),
        pytest.param(_spec(stop_token_ids=[97]), "stop_token_ids", "97", id="stop-id-past-vocabulary"),
        pytest.param(_spec(logprobs=21), "logprobs", "21", id="21-candidates"),
        pytest.param(_spec(output_token_ids=[97]), "output_token_ids", "97", id="output-id-past-vocabulary"),
        pytest.param(_spec(output_token_ids=range(8)), "output_token_ids", "8", id="nothing-left-to-draw"),
        pytest.param(
            _spec(output_token_ids=[1], prompt_logprobs=0), "prompt_logprobs", "first token", id="twice"
        ),
        pytest.param(_spec(images=[{"start": 0, "length": 1}]), "images", "takes none", id="image"),
    ],
)
def test_a_bad_sequence_is_rejected_with_field_and_bound_and_the_session_goes_on(engine, spec, field, words):
    collected = _run_session(engine, _with_submits(_hello(), {1: spec, 2: _spec()}))
    status = collected.rejected[1]
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    violation = error_pb2.BadRequest.FromString(status.details[0].value).field_violations[0]
    assert violation.field == field
    assert words in violation.description
    assert 2 in collected.finished


@pytest.mark.parametrize(
    ("fields", "name"),
    [({"adapter": "poet"}, "adapter"), ({"response_format": {"regex": "a+"}}, "response_format")],
    ids=["adapter", "response-format"],
)
def test_what_is_not_supported_is_unimplemented_by_name(engine, fields, name):
    collected = _run_session(engine, _with_submits(_hello(), {1: _spec(**fields)}))
    assert collected.rejected[1].code == grpc.StatusCode.UNIMPLEMENTED.value[0]
    assert collected.rejected[1].message.startswith(name)


@pytest.mark.parametrize("number", [5, 4, 5 + 2**31], ids=["same", "before", "too-far"])
@pytest.mark.parametrize("ends", [{}, {"cancels": [5]}], ids=["runs", "cancelled"])
def test_numbers_ascend_on_a_stream(fake, number, ends):
    first, second = (
        _with_submits(_hello(), {5: _spec()}),
        _with_submits(pb.SessionRequest(), {number: _spec()}),
    )
    collected = _run_session(fake, first, pb.SessionRequest(**ends), second)
    assert f"{number} does not come after 5" in collected.rejected[number].message
    assert ends or set(collected.finished) == {5}


def test_numbers_begin_anew_after_the_last(fake):
    collected = _run_session(fake, _with_submits(_hello(), {2**32 - 1: _spec(), 0: _spec()}))
    assert set(collected.finished) == {2**32 - 1, 0}


def test_more_than_the_queue_holds_is_refused_with_a_retry_delay(fake):
    collected = _run_session(fake, _with_submits(_hello(), {number: _spec() for number in range(72)}))
    assert sorted(collected.rejected) == [70, 71]
    status = collected.rejected[70]
    assert status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert status.details[0].type_url == "type.googleapis.com/google.rpc.RetryInfo"
    assert len(collected.finished) == 70


@pytest.mark.parametrize(
    ("hello", "code", "words"),
    [
        pytest.param(pb.SessionRequest(), "INVALID_ARGUMENT", "hello", id="no-hello"),
        pytest.param(
            pb.SessionRequest(hello=pb.ClientHello(protocol_version=2)),
            "FAILED_PRECONDITION",
            "=2",
            id="version",
        ),
        pytest.param(
            _hello(vocab_size=98), "FAILED_PRECONDITION", "vocab_size=98", id="vocabulary-one-larger"
        ),
        pytest.param(_hello(eos_token_ids=[5]), "FAILED_PRECONDITION", "eos_token_ids=[5]", id="eos"),
    ],
)
def test_a_tokenizer_that_does_not_belong_to_the_weights_is_refused(engine, hello, code, words):
    with _stub(engine) as stub, pytest.raises(grpc.RpcError) as error:
        list(stub.Session(iter([hello]), timeout=10))
    assert error.value.code().name == code
    assert words in error.value.details()


def test_a_tokenizer_file_of_another_model_is_refused(tmp_path):
    save(random_model("llama"), tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with (
        running_service("engine_service", f"--model={tmp_path}", "--fake") as service,
        _stub(service) as stub,
    ):
        hello = _hello(eos_token_ids=[], tokenizer_sha256=b"x" * 32)
        with pytest.raises(grpc.RpcError, match="tokenizer_sha256"):
            list(stub.Session(iter([hello]), timeout=10))


def test_put_image_names_its_field(engine):
    with _stub(engine) as stub, pytest.raises(grpc.RpcError) as error:
        stub.PutImage(pb.PutImageRequest(pixels=b"\0\0\0"))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "pixels" in error.value.details()


def test_sigterm_lets_running_sequences_finish_and_exits_0(checkpoint):
    flags = (f"--model={checkpoint}", "--fake", "--fake-rate=100")
    with running_service("engine_service", *flags) as service, _stub(service) as stub:
        responses = stub.Generate(pb.GenerateRequest(spec=_spec(max_tokens=60)), timeout=30)
        count = len(next(responses).tokens)
        service.process.send_signal(signal.SIGTERM)
        count += sum(len(response.tokens) for response in responses)
        assert count == 60
        assert service.process.wait(20) == 0


def test_a_killed_core_ends_its_sequences_unavailable_and_comes_back_with_a_new_epoch(checkpoint):
    flags = (f"--model={checkpoint}", "--fake", "--fake-rate=20")
    with running_service("engine_service", *flags) as service, _stub(service) as stub:
        epoch = stub.GetEngineInfo(pb.GetEngineInfoRequest()).info.epoch
        responses = stub.Generate(pb.GenerateRequest(spec=_spec(max_tokens=200)), timeout=30)
        next(responses)
        os.kill(int(epoch.split("-")[0]), signal.SIGKILL)
        with pytest.raises(grpc.RpcError) as error:
            list(responses)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        deadline_s = time.monotonic() + 30
        while time.monotonic() < deadline_s:
            with contextlib.suppress(grpc.RpcError):
                if stub.GetEngineInfo(pb.GetEngineInfoRequest()).info.epoch != epoch:
                    break
            time.sleep(0.05)
        wait_until_serving(service)
        assert len(list(stub.Generate(pb.GenerateRequest(spec=_spec(max_tokens=1)), timeout=30))) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--model=/no/such/dir"], "model='/no/such/dir'", id="no-model"),
        pytest.param(["--kv-block-size=0"], "kv_block_size=0: must be at least 1", id="flag-bound"),
        pytest.param(["--num-blocks=2", "--context-length=256"], "raise --kv-cache-mib", id="memory"),
        pytest.param(["--gpu-memory-utilization=1.5"], "gpu_memory_utilization=1.5: must be in", id="share"),
        pytest.param(
            ["--device=cuda"],
            "finds no NVIDIA GPU; check the driver with nvidia-smi, or run with --device cpu",
            id="no-gpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)
def test_a_start_that_cannot_succeed_ends_with_one_clear_line(checkpoint, flags, words):
    command = [
        sys.executable,
        "-m",
        "engine_service",
        "--listen=127.0.0.1:0",
        "--device=cpu",
        f"--model={checkpoint}",
        *flags,
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode != 0
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_the_fake_engine_loads_no_torch(checkpoint):
    code = (
        "import sys\n"
        "from support.local_core import LocalCore\n"
        "from engine_service.sequence import SequenceSpec\n"
        f"print(LocalCore({str(checkpoint)!r}, fake=True, fake_rate=0.0).generate(SequenceSpec((5, 6), 3)))\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=with_support(), check=False
    )
    assert (result.stdout.strip(), result.stderr) == ("[5, 6, 5]", "")
