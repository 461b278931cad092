"""Valid messages of every method of both services, for a small model that sees; what a fuzzer changes."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from support.mutated_images import seeds as image_files
from support.small_tokenizers import with_images
from tandem.engine.v1 import engine_pb2 as engine
from tandem.v1 import inference_pb2 as public

IMAGE = with_images().token_to_id("<image>")
VOCAB_SIZE = with_images().get_vocab_size()
EOS = 1
PIXELS = bytes(range(196)) * 12
SHA256 = hashlib.sha256(PIXELS).digest()
PHOTO = image_files()[0]


@dataclass(frozen=True)
class Method:
    """A method and valid messages for it.

    Attributes:
        path: As gRPC has it.
        is_stream: Whether it takes many messages.
        seeds: Messages to change.
        first: What a stream begins with.
    """

    path: str
    is_stream: bool
    seeds: Sequence[Message] = field(repr=False)
    first: Sequence[Message] = field(default=(), repr=False)

    @property
    def service(self) -> str:
        """The service's full name."""
        return self.path.split("/")[1]


def _nested(depth: int) -> Struct:
    struct = Struct()
    inner = struct
    for _ in range(depth):
        inner = inner.fields["a"].struct_value
    inner["b"] = 1
    return struct


GENERATE = [
    public.GenerateRequest(prompt="the quick fox", stop={"max_tokens": 3}),
    public.GenerateRequest(
        request_id="one",
        prompt="dog",
        n=2,
        priority=1,
        sampling={
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": 5,
            "min_p": 0.01,
            "repetition_penalty": 1.1,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.1,
            "logit_bias": {5: 1.5, 7: -100},
            "seed": 4,
        },
        stop={
            "max_tokens": 4,
            "min_tokens": 1,
            "strings": ["the", "x"],
            "token_ids": [9],
            "include_stop": True,
        },
        output={"logprobs": 2, "prompt_logprobs": 1, "token_ids": True, "echo": True, "special_tokens": True},
    ),
    public.GenerateRequest(token_ids={"ids": [5, 6, 7, 300]}, stop={"max_tokens": 2, "ignore_eos": True}),
    public.GenerateRequest(
        chat={
            "messages": [
                {"role": "system", "content": [{"text": "be short"}]},
                {"role": "user", "content": [{"text": "what is this?"}, {"image": {"data": PHOTO}}]},
            ],
            "template_variables": _nested(3),
            "tools": [_nested(1)],
        },
        stop={"max_tokens": 2},
    ),
    public.GenerateRequest(prompt="see <image>", images=[{"data": PHOTO}], stop={"max_tokens": 2}),
    public.GenerateRequest(prompt="see <image>", images=[{"sha256": SHA256}], stop={"max_tokens": 2}),
    public.GenerateRequest(
        request_id="two",
        prompt="lazy",
        stop={"max_tokens": 2},
        first_token_timeout={"seconds": 5},
        resume={"after_tokens": 1, "linger": {"nanos": 1000}},
    ),
    public.GenerateRequest(
        prompt="a", response_format={"choice": {"options": ["b"]}}, adapter="c", stop={"max_tokens": 1}
    ),
]
_SPECS = [
    engine.SequenceSpec(token_ids=[5, 6, 7], max_tokens=3),
    engine.SequenceSpec(
        token_ids=range(2, 40),
        max_tokens=4,
        min_tokens=1,
        sampling={"temperature": 0.8, "top_p": 0.9, "top_k": 3, "logit_bias": {4: 2.0}, "seed": 1},
        stop_token_ids=[8],
        ignore_eos=True,
        logprobs=2,
        prompt_logprobs=1,
        priority=3,
        timeout_ms=5000,
        first_token_timeout_ms=4000,
        client="somebody",
        request_id="one",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    ),
    engine.SequenceSpec(token_ids=[5, 6], output_token_ids=[7], max_tokens=3),
    engine.SequenceSpec(
        token_ids=[5, *[IMAGE] * 4, 6], images=[{"sha256": SHA256, "start": 1, "length": 4}], max_tokens=2
    ),
]
_PUT = engine.PutImageRequest(sha256=SHA256, height=28, width=28, pixels=PIXELS)
_HELLO = engine.SessionRequest(
    hello={"protocol_version": 1, "fingerprint": {"vocab_size": VOCAB_SIZE, "eos_token_ids": [EOS]}}
)
_PUBLIC, _ENGINE = "/tandem.v1.Inference/", "/tandem.engine.v1.Engine/"

METHODS = [
    Method(_PUBLIC + "Generate", False, GENERATE),
    Method(
        _PUBLIC + "GenerateMany",
        True,
        [
            *(public.GenerateManyRequest(generate=each) for each in GENERATE),
            public.GenerateManyRequest(cancel={"request_id": "one"}),
        ],
    ),
    Method(
        _PUBLIC + "Tokenize",
        False,
        [
            public.TokenizeRequest(prompt="the lazy dog", add_special_tokens=False),
            public.TokenizeRequest(chat=GENERATE[3].chat),
        ],
    ),
    Method(
        _PUBLIC + "Detokenize", False, [public.DetokenizeRequest(token_ids=[5, 6, 7], special_tokens=True)]
    ),
    Method(_PUBLIC + "ListModels", False, [public.ListModelsRequest()]),
    Method(_ENGINE + "Generate", False, [engine.GenerateRequest(spec=each) for each in _SPECS]),
    Method(
        _ENGINE + "Session",
        True,
        [
            # Each with several numbers: of a stream's messages, taken at random, some ascend.
            *(
                engine.SessionRequest(submits=[{"sequence": i, "spec": each}])
                for i, each in enumerate(_SPECS * 3)
            ),
            engine.SessionRequest(cancels=[0, 9], stops=[{"sequence": 1, "num_tokens": 1}]),
            engine.SessionRequest(images=[_PUT]),
            _HELLO,
        ],
        first=[_HELLO],
    ),
    Method(
        _ENGINE + "PutImage",
        False,
        [_PUT],
    ),
    Method(_ENGINE + "GetEngineInfo", False, [engine.GetEngineInfoRequest()]),
    Method(_ENGINE + "GetLoad", False, [engine.GetLoadRequest()]),
]
