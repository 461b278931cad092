"""The demo model's generators, split, tokenizer and grading."""

import json
import re
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer

from tandem_demo.text import arithmetic, copying, counting, extraction, reversing
from tandem_demo.text.chats import GRADED_TASKS, TASKS, make_chat, make_exchanges
from tandem_demo.text.grading import (
    ALL_GRADED,
    Accuracy,
    as_table,
    grade,
    replace_table,
    sample_questions,
)
from tandem_demo.text.packing import ANSWER_MARK, PAD_MARK, ROW_LENGTHS, cut, make_rows
from tandem_demo.text.split import Exchange
from tandem_demo.text.tokenizer import BEGIN_ID, CHAT_TEMPLATE, END_ID, ROLE_IDS, encode_chat, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(seed=0, num_chats=300, vocab_size=600)


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_repeats_its_exchanges(task: str) -> None:
    def draw(seed: int) -> list[Exchange]:
        rng = Random(seed)
        return [exchange for _ in range(20) for exchange in make_exchanges(rng, task, held_out=False)]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


@pytest.mark.parametrize("task", GRADED_TASKS)
def test_held_out_content_never_occurs_in_training(task: str) -> None:
    rng = Random(5)
    training = [item for _ in range(4000) for item in make_exchanges(rng, task, held_out=False)]
    held_out = [item for _ in range(150) for item in make_exchanges(rng, task, held_out=True)]
    assert {item.key for item in training}.isdisjoint(item.key for item in held_out)
    if task != "story_questions":  # a follow-up question means something only together with its story
        assert {item.question for item in training}.isdisjoint(item.question for item in held_out)


@pytest.mark.parametrize("sign", ["+", "*"])
def test_both_orders_of_an_operand_pair_are_on_one_side(sign: str) -> None:
    assert arithmetic.sum_key(23, sign, 48) == arithmetic.sum_key(48, sign, 23)
    assert arithmetic.sum_key(48, "-", 23) != arithmetic.sum_key(23, "-", 48)


def test_arithmetic_answers_are_right() -> None:
    rng = Random(7)
    for _ in range(3000):
        answer = arithmetic.make(rng).answer
        sides = [side.strip() for side in answer.split(". ")[0].rstrip(".").split("=")]
        values = [_calculate(side) for side in sides]
        assert len(set(values)) == 1, answer


def _calculate(expression: str) -> int:
    """The value of a number, or of two numbers with a sign between."""
    match = re.fullmatch(r"(-?\d+)(?: ([-+*]) (\d+))?", expression)
    assert match, expression
    first, sign, second = match.groups()
    if sign is None:
        return int(first)
    return {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[sign](int(first), int(second))


def test_a_number_only_question_gets_the_result_of_its_sum() -> None:
    rng = Random(8)
    drawn = [arithmetic.make_bare(rng) for _ in range(2000)]
    number_only = [item for item in drawn if "number" in item.question]
    assert number_only
    for item in number_only:
        asked = re.search(r"\d+ [-+] \d+", item.question)
        assert asked
        assert int(item.answer) == _calculate(asked.group())


def test_extraction_answers_are_json_with_values_from_the_text() -> None:
    rng = Random(9)
    for _ in range(500):
        item = extraction.make(rng)
        for key, value in json.loads(item.answer).items():
            assert key in item.question
            assert str(value) in item.question


def test_copies_repeat_what_stands_in_the_question() -> None:
    rng = Random(10)
    for _ in range(500):
        item = copying.make(rng)
        content = item.key.removeprefix("copying ")
        times = item.answer.count(content)
        assert content in item.question
        assert item.answer == content or times >= 2


def test_ranges_count_in_steps_of_one_between_the_numbers_asked_for() -> None:
    rng = Random(11)
    for _ in range(300):
        item = counting.make_range(rng)
        numbers = [int(part) for part in item.answer.split(", ")]
        step = 1 if numbers[0] < numbers[-1] else -1
        assert numbers == list(range(numbers[0], numbers[-1] + step, step))
        assert str(numbers[-1]) in item.question
        assert len(numbers) <= counting.LONGEST_COUNT


def test_item_counts_match_the_commas_of_the_list() -> None:
    rng = Random(12)
    for _ in range(200):
        item = counting.make_items(rng)
        assert item.answer == f"There are {item.question.count(',') + 1} items."


@pytest.mark.parametrize("make", [reversing.make_list, reversing.make_digits], ids=["words", "digits"])
def test_reversed_lists_are_the_question_read_backwards(make: Callable[[Random], Exchange]) -> None:
    rng = Random(13)
    for _ in range(200):
        item = make(rng)
        parts = re.findall(r"\w+", item.answer)
        backwards = parts[::-1] if len(parts) > 1 else [parts[0][::-1]]
        assert re.findall(r"\w+", item.question)[-len(backwards) :] == backwards


def test_new_stories_open_with_the_animal_asked_for() -> None:
    rng = Random(14)
    for _ in range(100):
        item = make_exchanges(rng, "new_story", held_out=False)[0]
        asked = re.search(r"about (an? \w+)", item.question)
        if asked:
            assert item.answer.startswith(f"Once upon a time, {asked.group(1)} named")


def test_story_answers_use_words_of_the_story() -> None:
    rng = Random(15)
    common = {"it", "was", "is", "were", "they", "ate", "felt", "met", "went", "to", "a", "an", "the", "gave"}
    for _ in range(300):
        items = make_exchanges(rng, "story_questions", held_out=False)
        story = set(re.findall(r"\w+", items[0].question.lower()))
        for item in items:
            assert set(re.findall(r"\w+", item.answer.lower())) - common - {"s"} <= story


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_any_text_survives_the_tokenizer(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_digits_stand_alone_and_plain_prompts_begin_with_the_begin_token(tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode("in 1984")
    assert encoding.ids[0] == BEGIN_ID
    assert encoding.tokens[-4:] == ["1", "9", "8", "4"]


def test_encoding_messages_one_by_one_equals_encoding_the_rendered_chat(tokenizer: Tokenizer) -> None:
    jinja2 = pytest.importorskip("jinja2", reason="the template engine comes with the tokenizer extra")
    template = jinja2.Template(CHAT_TEMPLATE)
    rng = Random(16)
    for _ in range(50):
        chat = make_chat(rng, held_out=False, max_chars=600)
        rendered = template.render(messages=chat, bos_token="<|begin|>", add_generation_prompt=True)
        expected = tokenizer.encode(rendered, add_special_tokens=False).ids
        assert [*encode_chat(tokenizer, chat)[0], ROLE_IDS["assistant"]] == expected


def test_only_answers_and_their_ends_are_learnt(tokenizer: Tokenizer) -> None:
    ids, learnt = encode_chat(
        tokenizer, [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hi 你"}]
    )
    written = [token for token, is_learnt in zip(ids, learnt, strict=True) if is_learnt]
    assert written[-1] == END_ID
    assert tokenizer.decode(written) == "Hi 你"


@pytest.mark.parametrize(("target", "kept"), [(2, 3), (3, 3), (5, 3), (6, 6)], ids=str)
def test_a_chat_is_cut_after_an_answer(target: int, kept: int) -> None:
    ids = [BEGIN_ID, 300, END_ID, 301, END_ID, END_ID]
    learnt = [False, True, True, False, False, True]
    assert cut(ids, learnt, target) == (ids[:kept], learnt[:kept])


def test_rows_hold_one_conversation_each_padded_at_the_end(tokenizer: Tokenizer) -> None:
    rows = make_rows(tokenizer, seed=1, num_conversations=100)
    assert sum(len(group.ids) for group in rows.values()) >= 95
    for length in ROW_LENGTHS:
        for ids, marks in zip(rows[length].ids, rows[length].marks, strict=True):
            num_tokens = int((marks != PAD_MARK).sum())
            assert (marks[:num_tokens] != PAD_MARK).all()
            assert list(ids[:num_tokens]).count(BEGIN_ID) == 1
            assert ids[0] == BEGIN_ID
            assert ids[num_tokens - 1] == END_ID
            assert marks[num_tokens - 1] == ANSWER_MARK


@pytest.mark.parametrize("task", ALL_GRADED)
def test_sampled_questions_differ_and_end_with_the_user(task: str) -> None:
    questions = sample_questions(task, 20, seed=0)
    assert len({str(question.messages) for question in questions}) == 20
    assert all(question.messages[-1]["role"] == "user" for question in questions)
    assert questions == sample_questions(task, 20, seed=0)


def test_grading_counts_exact_answers_and_forgives_white_space_around_them() -> None:
    questions = sample_questions("copying", 3, seed=0)
    answers = [questions[0].answer, f" {questions[1].answer}\n", questions[2].answer + "x"]
    assert grade("copying", questions, answers) == Accuracy("copying", 2, 3)


def test_the_table_replaces_what_stands_between_the_marks() -> None:
    card = "top\n<!-- accuracy:begin -->\nold\n<!-- accuracy:end -->\nbottom\n"
    table = as_table([Accuracy("copying", 3, 4)])
    assert "| copying | 3 | 4 | 75.0% |" in table
    assert replace_table(card, table) == card.replace("old", table)
    with pytest.raises(ValueError, match="accuracy:begin"):
        replace_table("no marks", table)
