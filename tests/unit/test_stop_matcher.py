"""Stop strings across token borders, held against a search character by character."""

import pytest
from hypothesis import given, settings, strategies as st

from tokenizer_service.stop import StopAutomaton, StopMatch, StopMatcher

letters = st.text("ab", max_size=4)
token_lists = st.lists(letters, max_size=14)
stop_lists = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=4, unique=True)


def expected_end(
    tokens: list[str], stops: list[str], min_tokens: int, include_stop: bool
) -> tuple[str, int, str | None]:
    """Text, number of tokens and stop string of an answer, by definition."""
    text = "".join(tokens)
    owner = [i for i, token in enumerate(tokens) for _ in token]
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found and owner[end - 1] >= min_tokens:
            stop = max(found, key=len)
            kept = end if include_stop else end - len(stop)
            return text[:kept], owner[kept - 1] + 1 if kept else 0, stop
    return text, len(tokens), None


def run(
    tokens: list[str], stops: list[str], min_tokens: int, include_stop: bool, sizes: list[int]
) -> tuple[str, int, str | None]:
    matcher = StopMatcher(StopAutomaton(stops), min_tokens=min_tokens, include_stop=include_stop)
    kept: list[str] = []
    start, turn = 0, 0
    while start < len(tokens):
        size = sizes[turn % len(sizes)]
        out = matcher.push(tokens[start : start + size])
        if isinstance(out, StopMatch):
            kept += out.texts
            return "".join(kept), len(kept), out.stop
        kept += out
        start, turn = start + size, turn + 1
    kept += matcher.finish()
    return "".join(kept), len(kept), None


@settings(max_examples=600, deadline=None)
@given(
    tokens=token_lists,
    stops=stop_lists,
    min_tokens=st.integers(0, 4),
    include_stop=st.booleans(),
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
def test_ends_where_the_definition_says(tokens, stops, min_tokens, include_stop, sizes):
    expected = expected_end(tokens, stops, min_tokens, include_stop)
    assert run(tokens, stops, min_tokens, include_stop, sizes) == expected


@settings(max_examples=500, deadline=None)
@given(tokens=st.lists(st.text("ab", min_size=1, max_size=1), max_size=14), stops=stop_lists)
def test_holds_back_no_more_than_could_become_a_stop_string(tokens, stops):
    matcher = StopMatcher(StopAutomaton(stops), min_tokens=100, include_stop=False)
    text, released = "", ""
    for token in tokens:
        out = matcher.push([token])
        assert isinstance(out, list)
        text, released = text + token, released + "".join(out)
        beginnings = {stop[:i] for stop in stops for i in range(1, len(stop))}
        held = max((len(each) for each in beginnings if text.endswith(each)), default=0)
        assert len(text) - len(released) == held


@pytest.mark.parametrize(
    ("tokens", "stops", "include_stop", "expected"),
    [
        (["say", " ST", "OP", " now"], ["STOP"], False, ("say ", 2, "STOP")),
        (["say", " ST", "OP", " now"], ["STOP"], True, ("say STOP", 3, "STOP")),
        (["STOP"], ["STOP"], False, ("", 0, "STOP")),
        (["a", "", "STOP"], ["STOP"], False, ("a", 1, "STOP")),
        (["xab"], ["b", "ab", "xabc"], False, ("x", 1, "ab")),
        (["ab"], ["a", "ab"], False, ("", 0, "a")),
    ],
    ids=[
        "across-tokens",
        "included",
        "whole-answer",
        "after-a-token-without-text",
        "longest-of-a-tie",
        "first",
    ],
)
def test_keeps_the_tokens_with_kept_characters(tokens, stops, include_stop, expected):
    assert run(tokens, stops, 0, include_stop, [1]) == expected
    assert run(tokens, stops, 0, include_stop, [10]) == expected


def test_without_a_beginning_of_a_stop_string_nothing_waits():
    matcher = StopMatcher(StopAutomaton(["STOP"]), min_tokens=0, include_stop=False)
    assert matcher.push(["say ", "no"]) == ["say ", "no"]
    assert matcher.push([" S"]) == []
    assert matcher.push(["o"]) == [" S", "o"]
