"""Clients that read slowly: they get every token once, nobody waits for them, and memory stays bounded.

TANDEM_SLOW_READERS says how many there are, 5 by default, beside four times as many that read at once;
TANDEM_SLOW_PAUSE_S how long they wait after each event, 0.05 s by default.
"""

import asyncio
import os
import random

import pytest

import tandem
from support.processes import running_service
from tandem.v1 import inference_pb2
from tandem_bench.process_table import processes_below

NUM_SLOW = int(os.environ.get("TANDEM_SLOW_READERS", "5"))
NUM_FAST = 4 * NUM_SLOW
PAUSE_S = float(os.environ.get("TANDEM_SLOW_PAUSE_S", "0.05"))
NUM_TOKENS = 250
# With 20 candidates a token is about 400 bytes for the client, so that an answer is more than what gRPC
# takes for a reader that does not read; in the worker it is some 3000.
NUM_CANDIDATES = 20
MAX_BYTES_OF_AN_ANSWER = 4096 * NUM_TOKENS
MAX_BYTES_BESIDES = 64 << 20


@pytest.fixture(scope="module")
def services():
    with (
        running_service("engine_service", "--fake", "--fake-rate=400", "--max-num-seqs=512") as engine,
        running_service("tokenizer_service", f"--engine={engine.address}") as tokenizer,
    ):
        yield tokenizer


def _prompt(name):
    """Ids that the fake engine repeats; 0 to 5 have meanings."""
    return random.Random(name).choices(range(6, 2000), k=7)


def _expected(prompt, count):
    return [prompt[place % len(prompt)] for place in range(count)]


async def _generate(client, name, pause):
    """Reads one answer; checks that every token came once, in order, with its log-probability."""
    prompt = _prompt(name)
    stream = client.stream(
        token_ids=prompt,
        max_tokens=NUM_TOKENS,
        ignore_eos=True,
        return_token_ids=True,
        logprobs=NUM_CANDIDATES,
        timeout=None,
    )
    token_ids, texts, logprobs = [], [], []
    async for event in stream:
        if isinstance(event, tandem.Delta):
            token_ids += event.token_ids
            texts.append(event.text)
            logprobs += [entry.token_id for entry in event.logprobs]
        await pause()
    assert token_ids == logprobs == _expected(prompt, NUM_TOKENS)
    return token_ids, "".join(texts)


async def _at_once():
    return


async def _beside_slow_readers(address, slow_address):
    """What the fast readers got while the slow ones never stopped reading, and how many answers those got."""
    fast_are_done = asyncio.Event()

    async def pause():
        if not fast_are_done.is_set():
            await asyncio.sleep(PAUSE_S)

    async def slow(client, number):
        count = 0
        while not fast_are_done.is_set():
            await _generate(client, f"slow {number} {count}", pause)
            count += 1
        return count

    async with tandem.AsyncClient(address) as client, tandem.AsyncClient(slow_address) as slow_client:
        slow_ones = [asyncio.create_task(slow(slow_client, number)) for number in range(NUM_SLOW)]
        names = [f"fast {number}" for number in range(NUM_FAST)]
        found = await asyncio.gather(*(_generate(client, name, _at_once) for name in names))
        assert not any(task.done() for task in slow_ones)
        fast_are_done.set()
        counts = await asyncio.gather(*slow_ones)
        texts = [await client.detokenize(token_ids) for token_ids, _ in found]
    assert [text for _, text in found] == texts
    return counts


def _rss_bytes(service):
    return sum(each.rss_bytes for each in processes_below(service.process.pid))


@pytest.mark.timeout(120 + 10 * NUM_SLOW)
def test_fast_readers_finish_beside_slow_ones_and_all_get_every_token_once(services):
    before = _rss_bytes(services)
    counts = asyncio.run(_beside_slow_readers(services.address, services.address))
    grown = _rss_bytes(services) - before
    print(f"{counts} answers of slow readers; the worker grew by {grown / (1 << 20):.0f} MiB")
    assert min(counts) >= 1
    assert grown < (NUM_SLOW + NUM_FAST) * MAX_BYTES_OF_AN_ANSWER + MAX_BYTES_BESIDES


async def _many(client, names, hold):
    """The token ids of each request on one GenerateMany stream; `hold` waits after each event."""
    call = client._stub().GenerateMany()
    for name in names:
        generate = inference_pb2.GenerateRequest(
            request_id=name,
            token_ids={"ids": _prompt(name)},
            stop={"max_tokens": NUM_TOKENS, "ignore_eos": True},
            output={"token_ids": True, "logprobs": NUM_CANDIDATES},
        )
        await call.write(inference_pb2.GenerateManyRequest(generate=generate))
    await call.done_writing()
    found = {name: [] for name in names}
    async for event in call:
        found[event.request_id] += event.delta.token_ids
        assert not event.HasField("failed"), event
        await hold()
    return found


def test_a_slow_stream_of_many_requests_holds_up_no_other_stream(services):
    slow_names = [f"slow {number}" for number in range(50)]
    fast_names = [f"fast {number}" for number in range(10)]

    async def run():
        others_are_done = asyncio.Event()
        async with tandem.AsyncClient(services.address) as client:
            # It reads its first event, and no more until the other stream has ended.
            slow = asyncio.create_task(_many(client, slow_names, others_are_done.wait))
            fast = await _many(client, fast_names, _at_once)
            assert not slow.done()
            others_are_done.set()
            return fast | await slow

    found = asyncio.run(run())
    assert found == {name: _expected(_prompt(name), NUM_TOKENS) for name in (*slow_names, *fast_names)}
