"""One answer from the engine's mail to events."""

import pytest

from support.small_tokenizers import byte_level
from tandem_service.errors import DeadlineError, InternalError, UnavailableError
from tokenizer_service.answer import Answer, Prompt
from tokenizer_service.detokenizer import detokenizer_for
from tokenizer_service.engine_sequence import EngineSequence, SequenceStart
from tokenizer_service.events import Delta, Finished, FinishReason, Started
from tokenizer_service.request import Output, Stop
from tokenizer_service.stop import StopAutomaton, StopMatcher
from tokenizer_service.token_table import build_token_table
from tokenizer_service.transcript import Place

TABLE = build_token_table(byte_level())
START = SequenceStart(cached_tokens=1, queue_us=10, prefill_us=20, prompt_logprobs=[])


class Harness:
    """An answer, its sequence, and what it tells the engine."""

    def __init__(self, stop=None):
        self.stops = []
        stop = stop or Stop()
        matcher = None
        if stop.strings:
            automaton = StopAutomaton(stop.strings)
            matcher = StopMatcher(automaton, min_tokens=stop.min_tokens, include_stop=stop.include_stop)
        self.sequence = EngineSequence(7, lambda: None, lambda *a: self.stops.append(a), lambda number: None)
        self.answer = Answer(
            0,
            Prompt("", (1, 2, 3)),
            Output(token_ids=True),
            stop,
            TABLE,
            detokenizer_for(TABLE, special_tokens=False),
            matcher,
            self.sequence,
            is_kept=False,
        )
        self.place = Place(0)

    def mail(self, tokens=(), start=None, reason=None):
        self.sequence.tokens += tokens
        if start:
            self.sequence.start(start)
        if reason:
            self.sequence.finish(reason, now_s=0.0)
        self.answer.advance()
        return self.answer.transcript.read(self.place)


def ids(text):
    return byte_level().encode(text, add_special_tokens=False).ids


def test_all_that_came_is_one_delta():
    tokens = ids("the lazy dog sleeps")
    events = Harness().mail(tokens, START, FinishReason.LENGTH)
    assert [type(event) for event in events] == [Started, Delta, Finished]
    assert (events[1].text, events[1].token_ids) == ("the lazy dog sleeps", tuple(tokens))


def test_nothing_new_is_no_event():
    assert Harness().mail() == []


def test_ids_wait_with_the_text_of_their_character():
    tokens = ids("🙂")
    assert len(tokens) > 1
    harness = Harness()
    assert harness.mail(tokens[:-1]) == []
    (delta,) = harness.mail(tokens[-1:])
    assert (delta.text, delta.token_ids, delta.num_tokens) == ("🙂", tuple(tokens), len(tokens))


def test_a_broken_character_at_the_end_is_not_lost():
    tokens = ids("🙂")[:1]
    delta, finished = Harness().mail(tokens, reason=FinishReason.LENGTH)
    assert (delta.text, delta.num_tokens) == ("\ufffd", 1)
    assert finished.usage.completion_tokens == 1


def test_what_waited_for_a_stop_string_comes_at_the_end():
    harness = Harness(Stop(strings=("dog!",)))
    assert harness.mail(ids("dog")) == []
    delta, finished = harness.mail(reason=FinishReason.LENGTH)
    assert delta.text == "dog"
    assert (finished.reason, finished.matched_stop) == (FinishReason.LENGTH, None)


@pytest.mark.parametrize("reason", [None, FinishReason.LENGTH], ids=["running", "ended"])
def test_the_engine_is_stopped_only_while_it_runs(reason):
    harness = Harness(Stop(strings=("dog",)))
    *_, finished = harness.mail(ids("the dog sleeps"), reason=reason)
    assert (finished.reason, finished.matched_stop) == (FinishReason.STOP_STRING, "dog")
    assert harness.answer.is_finished
    kept = finished.usage.completion_tokens
    assert harness.stops == ([(7, kept)] if reason is None else [])


def test_a_stop_string_in_the_first_tokens_does_not_count():
    harness = Harness(Stop(strings=("o",), min_tokens=len(ids("dog"))))
    delta, finished = harness.mail(ids("dog") + ids("dog"))
    assert delta.text == "dogd"
    assert finished.matched_stop == "o"


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        (FinishReason.ERROR, InternalError),
        (FinishReason.DEADLINE, DeadlineError),
        (FinishReason.CANCELLED, UnavailableError),
    ],
)
def test_an_answer_that_the_engine_gave_up_fails(reason, error):
    with pytest.raises(error):
        Harness().mail(reason=reason)


def test_an_answer_of_nothing_but_the_end_has_no_delta():
    (finished,) = Harness().mail([1], reason=FinishReason.EOS)
    assert finished.matched_stop == 1
    assert finished.usage.completion_tokens == 1
