"""The demo's byte-level BPE tokenizer and its chat template.

Every byte is in the alphabet, so any text can be encoded and comes back unchanged; digits always stand
alone. Content never merges across a special token, so encoding the messages of a chat one by one gives the
same ids as encoding the rendered chat (`encode_chat` relies on it).
"""

from collections.abc import Iterable, Sequence
from random import Random

from tokenizers import Tokenizer

from tandem_demo.byte_level_bpe import train_byte_level_bpe
from tandem_demo.text import words
from tandem_demo.text.chats import Message, make_chat, make_plain

VOCAB_SIZE = 2048
PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
SPECIAL_TOKENS = (PAD, BEGIN, END, *ROLES.values())
PAD_ID, BEGIN_ID, END_ID = 0, 1, 2
ROLE_IDS = {role: 3 + index for index, role in enumerate(ROLES)}

CHAT_TEMPLATE = (
    "{{- bos_token -}}\n"
    "{%- for message in messages -%}\n"
    "{%- if message['role'] not in ('system', 'user', 'assistant') -%}\n"
    "{{- raise_exception('role must be system, user or assistant, not ' ~ message['role']) -}}\n"
    "{%- endif -%}\n"
    "{{- '<|' ~ message['role'] ~ '|>' ~ message['content'] ~ '<|end|>' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- '<|assistant|>' -}}\n"
    "{%- endif -%}\n"
)


def sample_text(seed: int, num_chats: int) -> Iterable[str]:
    """Text to learn merges from: chats, plain text, and a little of other scripts."""
    rng = Random(seed)
    for _ in range(num_chats):
        for message in make_chat(rng, held_out=False, max_chars=300):
            yield message["content"]
        yield make_plain(rng)
    yield " ".join(words.UNICODE * 20)


def train_tokenizer(seed: int, num_chats: int = 20_000, vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """Learn the merges; the same seed gives the same tokenizer."""
    return train_byte_level_bpe(sample_text(seed, num_chats), SPECIAL_TOKENS, vocab_size, BEGIN)


def encode_chat(tokenizer: Tokenizer, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
    """A chat's ids, and for each whether the model has to learn to write it (answers with their end)."""
    ids, learnt = [BEGIN_ID], [False]
    encodings = tokenizer.encode_batch([message["content"] for message in messages], add_special_tokens=False)
    for message, encoding in zip(messages, encodings, strict=True):
        is_answer = message["role"] == "assistant"
        ids += [ROLE_IDS[message["role"]], *encoding.ids, END_ID]
        learnt += [False] + [is_answer] * (len(encoding.ids) + 1)
    return ids, learnt


def encode_plain(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[bool]]:
    """A plain text's ids; all but the first token are learnt."""
    ids = [BEGIN_ID, *tokenizer.encode(text, add_special_tokens=False).ids, END_ID]
    return ids, [False] + [True] * (len(ids) - 1)
