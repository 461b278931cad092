"""What waits for a client that reads slowly: steps merge, into messages of a bounded size."""

import asyncio

from engine_service.plan import StepColumns
from engine_service.sequence import Logprobs
from engine_service.session import ClientSession

NUM_CANDIDATES = 20


def columns(step, with_logprobs):
    logprobs = {
        sequence: Logprobs(NUM_CANDIDATES, [-1.0], [7] * NUM_CANDIDATES, [-1.0] * NUM_CANDIDATES)
        for sequence in range(100)
    }
    return StepColumns(step, list(range(100)), [step] * 100, logprobs=logprobs if with_logprobs else {})


def waiting(num_steps, with_logprobs):
    session = ClientSession(0)
    for step in range(num_steps):
        session.add_columns(columns(step, with_logprobs))
    frames = asyncio.run(session.take_frames()).columns
    assert [token for each in frames for token in each.tokens[::100]] == list(range(num_steps))
    return frames


def test_steps_merge_into_one():
    (merged,) = waiting(200, with_logprobs=False)
    assert merged.step == 199


def test_steps_with_many_logprobs_stay_apart_before_they_are_too_large():
    frames = waiting(200, with_logprobs=True)
    assert all(each.num_values <= 65_536 for each in frames)
    assert len(frames) == 7
    for each in frames:
        num_tokens = len(each.tokens) // 100
        assert all(len(found.logprobs) == num_tokens for found in each.logprobs.values())
