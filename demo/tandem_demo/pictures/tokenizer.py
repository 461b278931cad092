"""The picture model's byte-level BPE tokenizer and its chat template.

Every byte is in the alphabet and digits stand alone, as in the text model's. `<image>` stands for one picture
in a prompt; the tokenizer service writes it once for each of the picture's patches. Training has the picture
before the question, so the template puts a message's pictures first, wherever they are among its parts.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from random import Random

from tokenizers import Tokenizer

from tandem_demo.byte_level_bpe import train_byte_level_bpe
from tandem_demo.pictures.composing import make_scene
from tandem_demo.pictures.exchange import Exchange
from tandem_demo.pictures.tasks import draw_exchanges

VOCAB_SIZE = 576
PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
ROLES = {"system": "<|system|>", "user": "<|user|>", "assistant": "<|assistant|>"}
IMAGE = "<image>"
SPECIAL_TOKENS = (PAD, BEGIN, END, *ROLES.values(), IMAGE)
PAD_ID, BEGIN_ID, END_ID = 0, 1, 2
ROLE_IDS = {role: 3 + index for index, role in enumerate(ROLES)}
IMAGE_ID = 6

CHAT_TEMPLATE = (
    "{{- bos_token -}}\n"
    "{%- for message in messages -%}\n"
    "{%- if message['role'] not in ('system', 'user', 'assistant') -%}\n"
    "{{- raise_exception('role must be system, user or assistant, not ' ~ message['role']) -}}\n"
    "{%- endif -%}\n"
    "{{- '<|' ~ message['role'] ~ '|>' -}}\n"
    "{%- if message['content'] is string -%}\n"
    "{{- message['content'] -}}\n"
    "{%- else -%}\n"
    "{%- for part in message['content'] if part['type'] == 'image' -%}\n"
    "{{- '<image>' -}}\n"
    "{%- endfor -%}\n"
    "{%- for part in message['content'] if part['type'] == 'text' -%}\n"
    "{{- part['text'] -}}\n"
    "{%- endfor -%}\n"
    "{%- endif -%}\n"
    "{{- '<|end|>' -}}\n"
    "{%- endfor -%}\n"
    "{%- if add_generation_prompt -%}\n"
    "{{- '<|assistant|>' -}}\n"
    "{%- endif -%}\n"
)


def sample_text(seed: int, num_scenes: int) -> Iterable[str]:
    """Text to learn merges from: questions and answers."""
    rng = Random(f"tokenizer {seed}")
    for _ in range(num_scenes):
        scene = make_scene(rng)
        for exchange in draw_exchanges(scene, rng, 6):
            yield exchange.question
            yield exchange.answer


def train_tokenizer(seed: int, num_scenes: int = 1500, vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """Learn the merges; the same seed gives the same tokenizer."""
    return train_byte_level_bpe(sample_text(seed, num_scenes), SPECIAL_TOKENS, vocab_size, BEGIN)


def encode_exchanges(
    tokenizer: Tokenizer, exchanges: Sequence[Exchange]
) -> list[tuple[list[int], list[bool]]]:
    """Each exchange's ids and which of them the model has to write (the answer with its end).

    The ids are those after a picture: begin, user and picture come before the first exchange, user before
    each later one.
    """
    encoded = []
    for exchange in exchanges:
        asked = [*_encode(tokenizer, exchange.question), END_ID, ROLE_IDS["assistant"]]
        written = [*_encode(tokenizer, exchange.answer), END_ID]
        encoded.append((asked + written, [False] * len(asked) + [True] * len(written)))
    return encoded


@lru_cache(maxsize=200_000)
def _encode(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Questions and short answers come again and again."""
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)
