"""Requests from protobuf to plain values: defaults, conversions, seeds, flags."""

import json

import pytest
from google.protobuf.json_format import ParseDict

from tandem.engine.v1.engine_pb2 import SessionRequest
from tandem.v1 import inference_pb2
from tokenizer_service.config import TokenizerServiceConfig
from tokenizer_service.engine_conversion import to_spec, to_timeout_ms
from tokenizer_service.engine_info import SequenceSpec
from tokenizer_service.engine_sequence import EngineSequence
from tokenizer_service.request import Chat, Image, Request, Sampling, SamplingFields
from tokenizer_service.request_conversion import from_request
from tokenizer_service.sampling_defaults import load_defaults, resolve
from tokenizer_service.seeds import answer_seed, request_seed
from tokenizer_service.submission import Submission


def test_an_empty_message_is_a_request_without_anything():
    assert from_request(inference_pb2.GenerateRequest()) == Request()


def test_zero_is_a_value_and_absence_is_none():
    message = inference_pb2.GenerateRequest(
        sampling={"temperature": 0, "seed": 0}, output={"logprobs": 0}, stop={"max_tokens": 0}, n=0
    )
    request = from_request(message)
    assert (request.sampling.temperature, request.sampling.seed, request.sampling.top_p) == (0, 0, None)
    assert (request.output.logprobs, request.output.prompt_logprobs) == (0, None)
    assert (request.stop.max_tokens, request.n) == (0, 0)


def test_a_chats_parts_are_joined_and_its_numbers_are_whole_where_they_can_be():
    message = inference_pb2.GenerateRequest(
        chat={"messages": [{"role": "user", "content": [{"text": "a"}, {"image": {}}, {"text": "b"}]}]}
    )
    message.chat.tools.append(
        ParseDict({"max": 3, "step": 0.5, "list": [1, None, "b"]}, message.chat.tools.add())
    )
    message.chat.template_variables.update({"thinking": False, "budget": 10})
    chat = from_request(message).input
    assert isinstance(chat, Chat)
    assert chat.messages[0].text == "ab"
    assert chat.messages[0].images == (Image("chat.messages[0].content[1].image"),)
    assert chat.tools[0] == {"max": 3, "step": 0.5, "list": [1, None, "b"]}
    assert isinstance(chat.tools[0]["max"], int)
    assert chat.template_variables == {"thinking": False, "budget": 10}


@pytest.mark.parametrize(
    ("file", "flags", "expected"),
    [
        ({}, {}, Sampling()),
        ({"temperature": 0.6, "top_p": 0.9, "do_sample": True}, {}, Sampling(temperature=0.6, top_p=0.9)),
        ({"temperature": 0.6, "do_sample": False}, {}, Sampling(temperature=0)),
        ({"do_sample": False}, {"default_temperature": 0.7}, Sampling(temperature=0.7)),
        ({"top_k": 50, "top_p": None}, {"default_top_p": 0.5}, Sampling(top_k=50, top_p=0.5)),
        ({"top_k": -1}, {}, Sampling()),
    ],
    ids=["no-file", "models", "greedy-model", "flag-over-model", "both", "keep-all-as-minus-one"],
)
def test_defaults_are_the_models_then_the_flags(tmp_path, file, flags, expected):
    if file:
        (tmp_path / "generation_config.json").write_text(json.dumps(file))
    assert load_defaults(tmp_path, TokenizerServiceConfig(**flags)) == expected


def test_a_default_out_of_bounds_is_refused_at_start(tmp_path):
    (tmp_path / "generation_config.json").write_text('{"top_p": 7}')
    with pytest.raises(ValueError, match=r"sampling.top_p: 7 is not in \(0, 1\]"):
        load_defaults(tmp_path, TokenizerServiceConfig())


def test_a_requests_own_sampling_comes_before_the_defaults():
    found = resolve(SamplingFields(temperature=0.0, logit_bias={3: 1.0}), Sampling(temperature=0.7, top_k=9))
    assert found == Sampling(temperature=0.0, top_k=9, logit_bias={3: 1.0})


def test_the_engine_is_told_every_default():
    spec = SequenceSpec((5,), Sampling(), None, 3, 0, (), False, None, None, -2)
    message = to_spec(spec)
    assert message.sampling.HasField("temperature")
    assert message.sampling.temperature == 1.0
    assert not message.sampling.HasField("seed")
    assert not message.HasField("logprobs")
    assert message.priority == -2


def test_what_may_overrun_its_deadline_is_bound_by_it_only_when_it_is_first_submitted():
    def submissions(may_overrun):
        spec = SequenceSpec((5,), Sampling(), None, 3, 0, (), False, None, None, 0, may_overrun=may_overrun)
        sequence = EngineSequence(1, lambda: None, lambda *_: None, lambda _: None)
        submission = Submission(sequence, spec, 12.0)
        request = SessionRequest()
        submission.write_to(request, 10.0)
        submission.num_losses = 1
        submission.write_to(request, 11.0)
        return [each.spec.timeout_ms for each in request.submits]

    assert submissions(False) == [2000, 1000]
    assert submissions(True) == [2000, 0]


@pytest.mark.parametrize(("seconds", "ms"), [(1.5, 1500), (0.0, 1), (-3.0, 1), (1e12, 2**32 - 1)])
def test_timeouts_fit_the_wire(seconds, ms):
    assert to_timeout_ms(seconds) == ms


def test_seeds_are_the_requests_own_first_and_splitmix64_then():
    assert request_seed(5) == 5
    assert len({request_seed(None) for _ in range(8)}) == 8
    assert answer_seed(1234567, 0) == 1234567
    # The published first outputs of SplitMix64 from this state.
    assert [answer_seed(1234567, i) for i in (1, 2, 3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
    assert answer_seed(2**64 - 1, 1) < 2**64


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"max_requests": 0}, "max_requests=0: must be at least 1"),
        ({"max_image_pixels": 0}, "max_image_pixels=0: must be at least 1"),
        ({"max_images": -1}, "max_images=-1: must be at least 0"),
        ({"grace_s": -1.0}, "grace_s=-1.0: must be at least 0"),
        ({"grace_s": float("nan")}, "grace_s=nan"),
        ({"engine": ""}, "engine is empty"),
        ({"workers": 2, "listen": "unix:/x"}, "workers=2 needs a TCP port"),
        ({"workers": 2, "listen": "127.0.0.1:0"}, "workers=2 needs a TCP port"),
    ],
)
def test_a_wrong_configuration_shows_value_and_bound(flags, said):
    with pytest.raises(ValueError, match=said):
        TokenizerServiceConfig(**flags)


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({}, "demo"),
        ({"model": "/models/Llama-3.2-1B/"}, "Llama-3.2-1B"),
        ({"model": "meta-llama/Llama-3.2-1B"}, "Llama-3.2-1B"),
        ({"model": "/models/x", "model_name": "mine"}, "mine"),
    ],
)
def test_a_model_is_known_by_the_last_part_of_its_path(flags, name):
    assert TokenizerServiceConfig(**flags).served_name == name
