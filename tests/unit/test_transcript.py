"""Replays of an answer from anywhere in it, over the demo model's tokenizer."""

import functools

import pytest
from hypothesis import given, settings, strategies as st

from tandem_demo import MODEL_DIR
from tokenizer_service.answer import Answer, Prompt
from tokenizer_service.detokenizer import decode, detokenizer_for
from tokenizer_service.engine_sequence import EngineSequence, LogprobRow, SequenceStart
from tokenizer_service.events import Delta, Finished, FinishReason, Started
from tokenizer_service.request import Output, Stop
from tokenizer_service.stop import StopAutomaton, StopMatcher
from tokenizer_service.tokenizer import load_tokenizer
from tokenizer_service.transcript import MAX_TOKENS_OF_A_DELTA, Place, Transcript

STOPS = ("fox and", "🙂🙂", "東", "naïve ")
WORDS = st.sampled_from(["the fox", " and", "🙂", "👩‍👩‍👧", "naïve", " ", "東京", "e\u0301", "\n", "dog"])


@functools.cache
def tokenizer():
    return load_tokenizer(MODEL_DIR, 1)


def answer_with(stops):
    table = tokenizer().table
    matcher = StopMatcher(StopAutomaton(stops), min_tokens=0, include_stop=False) if stops else None
    sequence = EngineSequence(1, lambda: None, lambda *kept: None, lambda number: None)
    prompt, output = Prompt("", (1,)), Output(token_ids=True, logprobs=0)
    detokenizer = detokenizer_for(table, special_tokens=False)
    return Answer(0, prompt, output, Stop(strings=stops), table, detokenizer, matcher, sequence, is_kept=True)


def tokens_of(words, strays):
    """The words' tokens, with stray ones that may tear characters apart."""
    tokens = list(tokenizer()._encode("".join(words), False))
    for place, token in strays:
        tokens.insert(place % (len(tokens) + 1), token)
    return tokens


def replayed(transcript, after):
    events = transcript.read(Place(after))
    assert [type(event) for event in events if not isinstance(event, Delta)] == [Started, Finished]
    (delta,) = [event for event in events if isinstance(event, Delta)] or [Delta(0, "", (), (), 0)]
    return delta


@settings(max_examples=25, deadline=None)
@given(
    words=st.lists(WORDS, min_size=1, max_size=12),
    strays=st.lists(st.tuples(st.integers(0, 99), st.integers(6, 300)), max_size=3),
    cuts=st.lists(st.integers(1, 6), min_size=40, max_size=40),
    stops=st.lists(st.sampled_from(STOPS), max_size=3, unique=True),
)
def test_a_replay_from_any_token_is_the_rest(words, strays, cuts, stops):
    tokens = tokens_of(words, strays)
    answer = answer_with(tuple(stops))
    reader, seen = Place(0), [(0, "")]
    answer.sequence.start(SequenceStart(0, 0, 0, []))
    num_sent = 0
    for size in [*cuts, len(tokens)]:
        arrived = tokens[num_sent : num_sent + size]
        answer.sequence.tokens += arrived
        answer.sequence.logprobs += [LogprobRow(-float(num_sent + i), ()) for i in range(len(arrived))]
        num_sent += len(arrived)
        if num_sent == len(tokens):
            answer.sequence.finish(FinishReason.LENGTH, 0.0)
        answer.advance()
        new = "".join(e.text for e in answer.transcript.read(reader) if isinstance(e, Delta))
        seen.append((reader.num_tokens, seen[-1][1] + new))
        if answer.is_finished:
            break
    whole = replayed(answer.transcript, 0)
    text = decode(tokenizer().table, tokens, special_tokens=False)
    ends = [text.index(stop) for stop in stops if stop in text]
    assert whole.text == (text[: min(ends)] if ends else text)
    assert list(whole.token_ids) == tokens[: whole.num_tokens]
    for count in range(whole.num_tokens + 1):
        rest = replayed(answer.transcript, count)
        assert rest.token_ids == whole.token_ids[count:]
        assert [entry.logprob for entry in rest.logprobs] == [
            -float(i) for i in range(count, whole.num_tokens)
        ]
        assert whole.text.endswith(rest.text)
    for count, text_before in seen:
        assert text_before + replayed(answer.transcript, count).text == whole.text


@pytest.mark.parametrize("is_kept", [False, True], ids=["read-once", "kept"])
@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (MAX_TOKENS_OF_A_DELTA, [MAX_TOKENS_OF_A_DELTA]),
        (MAX_TOKENS_OF_A_DELTA + 1, [MAX_TOKENS_OF_A_DELTA, 1]),
        (5 * MAX_TOKENS_OF_A_DELTA // 2, [MAX_TOKENS_OF_A_DELTA] * 2 + [MAX_TOKENS_OF_A_DELTA // 2]),
    ],
    ids=["at-the-bound", "one-above", "twice-and-a-half"],
)
def test_what_is_more_than_a_delta_holds_comes_in_further_ones(count, sizes, is_kept):
    output = Output(token_ids=True, logprobs=0)
    transcript, place = Transcript(0, tokenizer().table, output, is_kept=is_kept), Place(0)
    tokens, texts = [i % 2000 for i in range(count)], [f"{i} " for i in range(count)]
    transcript.add(texts, tokens, [LogprobRow(-float(i), ()) for i in range(count)])
    deltas = transcript.read(place)
    assert [delta.num_tokens for delta in deltas] == sizes
    assert "".join(delta.text for delta in deltas) == "".join(texts)
    assert [token for delta in deltas for token in delta.token_ids] == tokens
    assert [entry.logprob for delta in deltas for entry in delta.logprobs] == [
        -float(i) for i in range(count)
    ]
    transcript.add(["end"], [7], [LogprobRow(-1.0, ())])
    assert [delta.text for delta in transcript.read(place)] == ["end"]
