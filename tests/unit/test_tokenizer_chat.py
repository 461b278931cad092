"""Conversations to prompts by chat templates, and tokenizers from model directories."""

import asyncio
import json

import pytest
from tokenizers import decoders

from support.small_tokenizers import byte_level, metaspace, write_model_dir
from tandem_service.errors import InvalidRequestError
from tokenizer_service.chat import ChatTemplate
from tokenizer_service.request import Chat, ChatMessage
from tokenizer_service.tokenizer import load_tokenizer

TEMPLATE = (
    "{{ bos_token }}{% if tools %}{{ tools | tojson }}{% endif %}{% if mood %}[{{ mood }}]{% endif %}"
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
HELLO = ChatMessage("user", ("hello",))


def rendered(template, *messages, **fields):
    return asyncio.run(template.render(Chat(messages or (HELLO,), **fields)))


def template_of(directory):
    return ChatTemplate(load_tokenizer(directory, num_threads=1).source)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    directory = write_model_dir(tmp_path_factory.mktemp("chat"), byte_level(), TEMPLATE)
    return template_of(directory)


@pytest.mark.parametrize(
    ("fields", "prompt"),
    [
        ({}, "<s><|user|>hello</s><|assistant|>"),
        ({"add_generation_prompt": False}, "<s><|user|>hello</s>"),
        ({"continue_final_message": True}, "<s><|user|>hello"),
        ({"template_variables": {"mood": 3}}, "<s>[3]<|user|>hello</s><|assistant|>"),
        ({"tools": ({"name": "f"},)}, '<s>[{"name": "f"}]<|user|>hello</s><|assistant|>'),
    ],
    ids=["plain", "no-generation-prompt", "continued", "variable", "tools"],
)
def test_a_chat_becomes_what_the_template_makes_of_it(template, fields, prompt):
    assert rendered(template, **fields) == prompt


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[5].content }}",
        "{{ 1 // 0 }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}{{ missing.field }}",
    ],
    ids=["raises", "undefined", "division", "mutation", "sandbox"],
)
def test_a_template_that_fails_refuses_the_chat(tmp_path, source):
    directory = write_model_dir(tmp_path, byte_level(), source)
    with pytest.raises(InvalidRequestError) as caught:
        rendered(template_of(directory))
    assert caught.value.violations[0].field == "chat"


def test_the_templates_own_words_reach_the_client(tmp_path):
    directory = write_model_dir(tmp_path, byte_level(), "{{ raise_exception('roles must alternate') }}")
    with pytest.raises(InvalidRequestError, match="roles must alternate"):
        rendered(template_of(directory))


def test_a_model_without_a_template_takes_no_chats(tmp_path):
    template = template_of(write_model_dir(tmp_path, byte_level()))
    assert not template.exists
    with pytest.raises(InvalidRequestError, match="no chat template"):
        rendered(template)


@pytest.mark.parametrize("name", ["chat_template.json", "processor_config.json"])
def test_a_template_in_the_processors_files_counts(tmp_path, name):
    directory = write_model_dir(tmp_path, byte_level())
    (directory / name).write_text(json.dumps({"chat_template": TEMPLATE}))
    template = template_of(directory)
    assert rendered(template) == "<s><|user|>hello</s><|assistant|>"


@pytest.mark.parametrize("name", ["chat_template", "tokenize", "messages", "conversation"])
def test_reserved_variables_are_refused_by_name(template, name):
    with pytest.raises(InvalidRequestError, match=f"chat.template_variables.{name}"):
        rendered(template, template_variables={name: "x"})


def test_a_template_in_the_tokenizers_config_counts(tmp_path):
    write_model_dir(tmp_path, byte_level())
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": TEMPLATE}))
    template = ChatTemplate(load_tokenizer(tmp_path, num_threads=1).source)
    assert rendered(template) == "<s><|user|>hello</s><|assistant|>"


@pytest.mark.parametrize("length", [10, 5000], ids=["inline", "by-a-thread"])
def test_short_and_long_texts_are_encoded_alike(tmp_path, length):
    tokenizer = load_tokenizer(write_model_dir(tmp_path, byte_level()), num_threads=1)
    text = "the lazy dog, naïve 🙂 "[:10] * (length // 10)
    ids = asyncio.run(tokenizer.encode(text, add_special_tokens=False))
    assert list(ids) == byte_level().encode(text, add_special_tokens=False).ids


def test_a_missing_tokenizer_is_refused_by_file(tmp_path):
    with pytest.raises(ValueError, match=r"tokenizer.json is missing"):
        load_tokenizer(tmp_path, num_threads=1)


def test_a_tokenizer_of_another_kind_is_refused_by_its_decoder(tmp_path):
    write_model_dir(tmp_path, metaspace())
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    content["decoder"] = json.loads(decoders.WordPiece().__getstate__())
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="decoder is WordPiece"):
        load_tokenizer(tmp_path, num_threads=1)


def test_the_fingerprint_is_that_of_the_directory(tmp_path):
    found = load_tokenizer(write_model_dir(tmp_path, byte_level()), num_threads=1).fingerprint
    assert found.vocab_size == byte_level().get_vocab_size()
    assert found.eos_token_ids == (1,)
    assert len(found.tokenizer_sha256) == 32
