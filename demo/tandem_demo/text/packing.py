"""Training rows: one conversation each, padded to one of a few lengths.

No row holds two conversations, so positions and attention are those of inference: every conversation starts
at position 0. Long rows are long chats, which trains positions up to the context length.
"""

from dataclasses import dataclass
from random import Random

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tandem_demo.text.chats import make_chat, make_plain
from tandem_demo.text.tokenizer import END_ID, PAD_ID, encode_chat, encode_plain

ROW_LENGTHS = (64, 192, 512, 1024)
PAD_MARK, PROMPT_MARK, ANSWER_MARK = 0, 1, 2
# How many conversations aim at each length; a long one holds many exchanges. Target 0 is a single exchange
# (or the questions about one story) of any length, PLAIN is text without a chat.
PLAIN = -1
SHARES = {PLAIN: 0.03, 0: 0.71, 192: 0.15, 512: 0.07, 1024: 0.04}
# Below the average of the generators' text, so that chats are built a little too long and then cut.
CHARS_PER_TOKEN = 3.3


@dataclass(frozen=True)
class Rows:
    """Rows of one length."""

    ids: npt.NDArray[np.int16]  # [num_rows, row_length]
    marks: npt.NDArray[np.uint8]  # [num_rows, row_length], PAD_MARK, PROMPT_MARK or ANSWER_MARK


def make_conversation(tokenizer: Tokenizer, rng: Random) -> tuple[list[int], list[bool]]:
    """The ids of one training conversation and which of them the model has to write."""
    target = rng.choices(list(SHARES), list(SHARES.values()))[0]
    if target == PLAIN:
        return encode_plain(tokenizer, make_plain(rng))
    chat = make_chat(rng, held_out=False, max_chars=int(target * CHARS_PER_TOKEN))
    ids, learnt = encode_chat(tokenizer, chat)
    return cut(ids, learnt, target) if target else (ids, learnt)


def cut(ids: list[int], learnt: list[bool], target: int) -> tuple[list[int], list[bool]]:
    """The longest start of a chat that ends with an answer and has at most `target` ids.

    A chat whose first answer ends later is cut after that answer.
    """
    ends = [place + 1 for place, token in enumerate(ids) if token == END_ID and learnt[place]]
    end = max((end for end in ends if end <= target), default=ends[0])
    return ids[:end], learnt[:end]


def make_rows(tokenizer: Tokenizer, seed: int, num_conversations: int) -> dict[int, Rows]:
    """Rows by length for conversations drawn from `seed`."""
    rng = Random(seed)
    conversations = [make_conversation(tokenizer, rng) for _ in range(num_conversations)]
    by_length: dict[int, list[tuple[list[int], list[bool]]]] = {length: [] for length in ROW_LENGTHS}
    for conversation in conversations:
        length = next((length for length in ROW_LENGTHS if len(conversation[0]) <= length), None)
        if length is not None:
            by_length[length].append(conversation)
    return {length: _pad(group, length) for length, group in by_length.items()}


def join_rows(parts: list[dict[int, Rows]]) -> dict[int, Rows]:
    """All parts' rows of each length together."""
    return {
        length: Rows(
            np.concatenate([part[length].ids for part in parts]),
            np.concatenate([part[length].marks for part in parts]),
        )
        for length in ROW_LENGTHS
    }


def _pad(conversations: list[tuple[list[int], list[bool]]], length: int) -> Rows:
    ids = np.full((len(conversations), length), PAD_ID, dtype=np.int16)
    marks = np.full((len(conversations), length), PAD_MARK, dtype=np.uint8)
    for row, (tokens, learnt) in enumerate(conversations):
        ids[row, : len(tokens)] = tokens
        marks[row, : len(tokens)] = np.where(learnt, ANSWER_MARK, PROMPT_MARK)
    return Rows(ids, marks)
