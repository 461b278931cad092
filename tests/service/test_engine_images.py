"""Images over the engine's real sockets: sent before, sent when asked for, never sent, wrong."""

import contextlib
import threading
import time

import grpc
import pytest
import torch

from engine_service.sequence import SequenceSpec
from support.checkpoints import random_model, save
from support.local_core import LocalCore
from support.pictures import IMAGE_TOKEN, llava_ids, picture, prompt_of, put, random_llava, sha256
from support.processes import running_service
from tandem.engine.v1 import engine_pb2 as pb, engine_pb2_grpc
from tandem.v1 import error_pb2

A, B = picture(0), picture(1)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return random_llava()


@pytest.fixture(scope="module")
def engine(model, tmp_path_factory):
    directory = save(model, tmp_path_factory.mktemp("llava"))
    with running_service("engine_service", f"--model={directory}", "--kv-cache-mib=64") as service:
        yield service


@pytest.fixture
def stub(engine):
    with grpc.insecure_channel(engine.address) as channel:
        yield engine_pb2_grpc.EngineStub(channel)


def _spec(parts, max_tokens=8, **fields):
    ids, images = prompt_of(parts)
    ranges = [pb.ImageRange(sha256=each.sha256, start=each.start, length=each.length) for each in images]
    fields = {"sampling": {"temperature": 0.0}, "token_ids": ids, "images": ranges} | fields
    return pb.SequenceSpec(max_tokens=max_tokens, **fields)


def _put_request(image, **changes):
    size = image.shape[0]
    fields = {"sha256": sha256(image), "height": size, "width": size, "pixels": image.numpy().tobytes()}
    return pb.PutImageRequest(**(fields | changes))


def _put(stub, image, **changes):
    return stub.PutImage(_put_request(image, **changes))


class Session:
    """A stream whose frames are collected by a thread while the test sends."""

    def __init__(self, stub):
        self.tokens, self.finished, self.rejected, self.needed = {}, {}, {}, []
        self._stub = stub
        self._requests, self._has_sent = [], threading.Event()
        self._is_closing = False

    def __enter__(self):
        fingerprint = pb.Fingerprint(vocab_size=97)
        self.send(hello=pb.ClientHello(protocol_version=1, fingerprint=fingerprint))
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, *error):
        self._is_closing = True
        self._reader.join(60)
        assert not self._reader.is_alive()

    def send(self, **fields):
        self._requests.append(pb.SessionRequest(**fields))

    def submit(self, number, spec):
        self.send(submits=[pb.Submit(sequence=number, spec=spec)])

    def wait_for(self, condition):
        deadline_s = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline_s, vars(self)
            time.sleep(0.005)

    def _sent(self):
        while self._requests or not self._is_closing:
            if self._requests:
                yield self._requests.pop(0)
            else:
                time.sleep(0.005)

    def _read(self):
        for frame in self._stub.Session(self._sent(), timeout=60):
            for sequence, token in zip(frame.step.sequences, frame.step.tokens, strict=True):
                self.tokens.setdefault(sequence, []).append(token)
            self.finished |= zip(frame.step.finished_sequences, frame.step.finished_reasons, strict=True)
            if frame.HasField("rejected"):
                self.rejected[frame.rejected.sequence] = frame.rejected.status
            if frame.HasField("need_image"):
                self.needed.append(frame.need_image.sha256)


def test_the_engine_says_that_it_sees(stub):
    info = stub.GetEngineInfo(pb.GetEngineInfoRequest()).info
    assert (info.architecture, info.has_vision) == ("LlavaForConditionalGeneration", True)


def test_an_image_sent_before_is_seen_beside_text_only_sequences(stub, model):
    assert not _put(stub, A).was_cached
    assert _put(stub, A).was_cached
    parts_of = {1: [5, 6, A, 7], 2: [5, 6, 7], 3: [A, A, 8], 4: [*range(20)]}
    with Session(stub) as session:
        for number, parts in parts_of.items():
            session.submit(number, _spec(parts))
    assert session.tokens == {number: llava_ids(model, parts, 8) for number, parts in parts_of.items()}
    assert session.needed == []


def test_a_missing_image_is_asked_for_while_others_run(stub, model):
    first, second = picture(10), picture(11)
    parts = [5, first, 6, second, 7]
    with Session(stub) as session:
        session.submit(1, _spec(parts))
        session.submit(2, _spec([5, 6, 7]))
        session.wait_for(lambda: len(session.needed) == 2 and 2 in session.finished)
        assert sorted(session.needed) == sorted([sha256(first), sha256(second)])
        assert stub.GetLoad(pb.GetLoadRequest()).load.num_waiting == 1
        assert not _put(stub, first).was_cached
        assert not _put(stub, second).was_cached
    assert session.tokens[1] == llava_ids(model, parts, 8)
    assert len(session.needed) == 2


def test_an_image_comes_with_the_sequence_that_needs_it(stub, model):
    image = picture(12)
    parts = [5, image, 7]
    with Session(stub) as session:
        session.send(images=[_put_request(image)], submits=[pb.Submit(sequence=1, spec=_spec(parts))])
    assert session.tokens == {1: llava_ids(model, parts, 8)}
    assert session.needed == []


def test_wrong_pixels_on_a_session_are_left_out_and_asked_for(stub, model):
    image = picture(13)
    parts = [5, image, 7]
    with Session(stub) as session:
        session.send(images=[_put_request(image, pixels=b"short")])
        session.submit(1, _spec(parts))
        session.submit(2, _spec([5, 6, 7]))
        session.wait_for(lambda: session.needed and 2 in session.finished)
        assert session.needed == [sha256(image)]
        assert not _put(stub, image).was_cached
    assert session.tokens[1] == llava_ids(model, parts, 8)


@pytest.mark.parametrize("end", ["cancel", "deadline", "disconnect"])
def test_waiting_for_an_image_ends_with_the_request(stub, end):
    missing = picture(20 + len(end))
    fields = {"timeout_ms": 100} if end == "deadline" else {}
    session = Session(stub)
    with session if end != "disconnect" else contextlib.nullcontext():
        if end == "disconnect":
            requests = [
                pb.SessionRequest(hello=pb.ClientHello(protocol_version=1, fingerprint={"vocab_size": 97}))
            ]
            requests[0].submits.add(sequence=1, spec=_spec([missing, 4]))
            call = stub.Session(iter(requests), timeout=30)
            assert next(call).HasField("hello")
            assert next(call).HasField("need_image")
            call.cancel()
        else:
            session.submit(1, _spec([missing, 4], **fields))
            session.wait_for(lambda: session.needed)
            if end == "cancel":
                session.send(cancels=[1])
    assert session.finished == ({1: 6} if end == "deadline" else {})
    for _ in range(200):
        load = stub.GetLoad(pb.GetLoadRequest()).load
        if load.num_waiting == 0:
            break
        time.sleep(0.02)
    assert load.num_waiting == load.num_running == 0


def _violations(status):
    return error_pb2.BadRequest.FromString(status.details[0].value).field_violations


SHA = sha256(A)
BAD_RANGES = {
    "short-hash": ({"sha256": SHA[:31], "start": 0, "length": 16}, "images[0].sha256", "31 bytes"),
    "one-short": ({"sha256": SHA, "start": 0, "length": 15}, "images[0].length", "16 placeholders"),
    "behind-prompt": ({"sha256": SHA, "start": 2, "length": 16}, "images[0].start", "ends at 18, behind 17"),
    "no-placeholders": (
        {"sha256": SHA, "start": 1, "length": 16},
        "images[0].start",
        f"all be {IMAGE_TOKEN}",
    ),
}


@pytest.mark.parametrize("case", BAD_RANGES)
def test_a_wrong_range_is_rejected_by_field(stub, case):
    image, field, words = BAD_RANGES[case]
    spec = _spec([], token_ids=[IMAGE_TOKEN] * 16 + [5], images=[pb.ImageRange(**image)])
    with Session(stub) as session:
        session.submit(1, spec)
        session.submit(2, _spec([1, 2]))
    violation = _violations(session.rejected[1])[0]
    assert (session.rejected[1].code, violation.field) == (3, field)
    assert words in violation.description
    assert 2 in session.finished


def test_overlapping_images_are_rejected(stub):
    images = [pb.ImageRange(sha256=SHA, start=start, length=16) for start in (10, 0)]
    with Session(stub) as session:
        session.submit(1, _spec([], token_ids=[IMAGE_TOKEN] * 40, images=images))
    assert "overlaps images[1], which ends at 16" in session.rejected[1].message


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        pytest.param({"height": 27}, "height", "27; images of this model have 28", id="height"),
        pytest.param({"width": 29}, "width", "29; images of this model have 28", id="width"),
        pytest.param({"pixels": b"\0" * 2351}, "pixels", "2351 bytes; 28 rows", id="one-byte-short"),
        pytest.param({"sha256": SHA}, "sha256", "is not the pixels'", id="another-hash"),
        pytest.param({"sha256": b""}, "sha256", "is not the pixels'", id="no-hash"),
    ],
)
def test_wrong_pixels_are_refused_by_field(stub, changes, field, words):
    with pytest.raises(grpc.RpcError) as error:
        _put(stub, B, **changes)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert field in error.value.details()
    assert words in error.value.details()


def test_generate_without_its_image_is_refused_and_with_it_answered(stub, model):
    image = picture(30)
    request = pb.GenerateRequest(spec=_spec([4, image, 5]))
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(request, timeout=30))
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "images[0].sha256: has no pixels here" in error.value.details()
    _put(stub, image)
    tokens = [token for response in stub.Generate(request, timeout=30) for token in response.tokens]
    assert tokens == llava_ids(model, [4, image, 5], 8)


def test_a_model_of_text_only_takes_no_pixels(tmp_path):
    flags = (f"--model={save(random_model('llama'), tmp_path)}", "--fake")
    with (
        running_service("engine_service", *flags) as service,
        grpc.insecure_channel(service.address) as channel,
        pytest.raises(grpc.RpcError) as error,
    ):
        _put(engine_pb2_grpc.EngineStub(channel), A)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "takes no images" in error.value.details()


def test_the_fake_engine_takes_images_too(model, tmp_path):
    core = LocalCore(save(model, tmp_path), fake=True, fake_rate=0.0)
    put(core, A)
    ids, images = prompt_of([5, 6, A])
    assert core.generate(SequenceSpec(ids, 3, images=images)) == [5, 6, IMAGE_TOKEN]
