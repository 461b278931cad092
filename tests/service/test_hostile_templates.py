"""Chat templates that were written against the service end with a status, soon, and alone."""

import asyncio
import time

import grpc
import pytest

from support.scripted_engine import LENGTH
from support.small_tokenizers import byte_level, write_model_dir
from support.tokenizer_fixture import encode, events_of, failure_of_call, generate_request, serving
from tandem.v1 import inference_pb2
from tandem_service.errors import InvalidRequestError

TIMEOUT_S = 0.5
# Until a hostile chat has its status; generous, since the machine may be busy.
WAIT_S = 20
LATE = f"it takes longer than template_timeout_s={TIMEOUT_S}"
LARGE = "it makes more than"
GROW = "{{% set ns = namespace(x={}) %}}{{% for i in range(99) %}}{{% set ns.x = {} %}}{{% endfor %}}"
HOSTILE = {
    "nested-loops": (
        "{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
        LATE,
    ),
    "filtered-loops": (
        "{% set r = range(99999) %}{% for a in r %}{% for b in r if false %}{% endfor %}{% endfor %}",
        LATE,
    ),
    "filters": (
        "{% set r = range(99999)|list %}{% for i in r %}{{ r|select('odd')|list|length }}{% endfor %}",
        LATE,
    ),
    "range": ("{{ range(10 ** 12)|list }}", "Range too big"),
    "repeated-text": ("{{ 'a' * 10 ** 9 }}", LARGE),
    "repeated-list": ("{{ ([1] * 10 ** 9)|length }}", LARGE),
    "power": ("{{ 9 ** (10 ** 9) }}", "number of more than"),
    "squares": (GROW.format("3", "ns.x * ns.x"), "number of more than"),
    "doubled-text": (GROW.format("'ab'", "ns.x ~ ns.x"), LARGE),
    "added-text": (GROW.format("'ab'", "ns.x + ns.x"), LARGE),
    "doubled-list": (GROW.format("['ab']", "[ns.x, ns.x]") + "{{ ns.x }}", LATE),
    "doubled-object": (GROW.format("{'a': 1}", "{'a': ns.x, 'b': ns.x}") + "{{ ns.x|tojson }}", LATE),
    "held-texts": (
        "{% set ns = namespace(x=[]) %}"
        "{% for i in range(99999) %}{% set ns.x = ns.x + ['a' * 1000000] %}{% endfor %}",
        LARGE,
    ),
    "written-text": (
        "{% for a in range(99999) %}{% for b in range(99999) %}" + "x" * 9999 + "{% endfor %}{% endfor %}",
        LARGE,
    ),
    "nested-namespaces": (
        "{% set a = namespace() %}{% set b = namespace(x=a, y=a) %}{{ b }}",
        "a namespace",
    ),
    "padding": ("{{ 'a'|center(10 ** 9) }}", LARGE),
    "padding-method": ("{{ 'a'.ljust(10 ** 9) }}", LARGE),
    "format": ("{{ '%1000000000d' % 1 }}", "width of many digits"),
    "format-method": ("{{ '{:{}}'.format(1, 10 ** 9) }}", LARGE),
    "join": ("{{ range(99999)|join('a' * 1000000) }}", LARGE),
    "replace": ("{{ ('a' * 1000000).replace('a', 'b' * 1000000) }}", LARGE),
    "indent": ("{{ [[1]]|tojson(indent=10 ** 9) }}", LARGE),
    "macro": ("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}", "recursion"),
    "filler": ("{{ lipsum(n=10 ** 9) }}", "'lipsum' is undefined"),
    "many-words": ("{{ raise_exception('a' * 10 ** 7) }}", "aaa"),
    "escape": ("{{ ''.__class__.__mro__ }}", "unsafe"),
    "file": ("{% include '/etc/passwd' %}", "no loader"),
}


async def dog(link, submit):
    await link.step(submit.sequence, encode("dog"), starts=True, finish=LENGTH)


def chat(*texts, **fields):
    messages = [{"role": "user", "content": [{"text": text}]} for text in texts]
    return inference_pb2.GenerateRequest(chat={"messages": messages, **fields})


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_refuses_its_chat_while_others_are_served(tmp_path, name):
    template, said = HOSTILE[name]
    model_dir = write_model_dir(tmp_path, byte_level(), template)

    async def main():
        async with serving(model_dir, dog, template_timeout_s=TIMEOUT_S) as found:
            hostile = asyncio.create_task(failure_of_call(found.stub.Generate(chat("hi"), timeout=WAIT_S)))
            other = await events_of(found.stub.Generate(generate_request(), timeout=WAIT_S))
            return await hostile, other[-1]

    (code, error), last = asyncio.run(main())
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(error, InvalidRequestError)
    assert error.violations[0].field == "chat"
    assert said in error.message
    assert len(error.message) < 1000
    assert last.HasField("finished")


def test_input_that_makes_a_template_slow_holds_up_nobody(tmp_path):
    # Looks for each message among all of them, as templates do that pair calls with answers.
    template = (
        "{% for a in messages %}{% for b in messages %}{% if a.content == b.content %}{% endif %}"
        "{% endfor %}{{ a.content }}{% endfor %}"
    )
    model_dir = write_model_dir(tmp_path, byte_level(), template)

    async def main():
        async with serving(model_dir, dog, template_timeout_s=TIMEOUT_S) as found:
            slow = [
                asyncio.create_task(failure_of_call(found.stub.Generate(chat(*["x"] * 4_000))))
                for _ in range(3)
            ]
            served = 0
            while not all(each.done() for each in slow):
                await events_of(found.stub.Generate(generate_request(), timeout=WAIT_S))
                served += 1
            return [await each for each in slow], served

    failures, served = asyncio.run(main())
    assert [code for code, _ in failures] == [grpc.StatusCode.INVALID_ARGUMENT] * 3
    assert all(LATE in error.message for _, error in failures)
    assert served > 1


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{% for m in messages %}{{ m.role ~ ': ' ~ m.content }};{% endfor %}", "user: hi;"),
        ("{{ '%s and %5d' % (messages[0].content, 42) }}", "hi and    42"),
        ("{{ '{0}-{x:>4}'.format('a', x='b') }}", "a-   b"),
        ("{{ [1, {'a': [2]}]|tojson }}", '[1, {"a": [2]}]'),
        ("{{ ['a', 'b']|join(', ') }}{{ '-'.join(messages|map(attribute='role')) }}", "a, buser"),
        (
            "{% set ns = namespace(n=0) %}{% for i in range(5) if i %}{% set ns.n = ns.n + i %}{% endfor %}"
            "{{ ns.n }}",
            "10",
        ),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('a') + m(1)|trim }}", "<a><1>"),
        ("{{ 'a\nb'|indent(2) }}{{ 'x' * 3 }}{{ 2 ** 10 }}", "a\n  bxxx1024"),
    ],
    ids=["concat", "percent", "format", "json", "join", "loop", "macro", "operators"],
)
def test_what_templates_do_is_what_it_was(tmp_path, template, expected):
    model_dir = write_model_dir(tmp_path, byte_level(), template)

    async def main():
        async with serving(model_dir, dog) as found:
            tokens = inference_pb2.TokenizeRequest(chat=chat("hi").chat)
            return (await found.stub.Tokenize(tokens, timeout=WAIT_S)).text

    assert asyncio.run(main()) == expected


def test_the_time_of_a_template_has_its_flag(tmp_path):
    model_dir = write_model_dir(tmp_path, byte_level(), HOSTILE["nested-loops"][0])

    async def main():
        async with serving(model_dir, dog, template_timeout_s=0.0) as found:
            begun_s = time.monotonic()
            _, error = await failure_of_call(found.stub.Generate(chat("hi"), timeout=WAIT_S))
            return error.message, time.monotonic() - begun_s

    message, elapsed_s = asyncio.run(main())
    assert "template_timeout_s=0" in message
    assert elapsed_s < WAIT_S
