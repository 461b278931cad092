"""Long texts are encoded while the event loop goes on."""

import asyncio

from tandem_demo import MODEL_DIR
from tokenizer_service.tokenizer import load_tokenizer

TEXT = "the quick brown fox 🦊 " * 40_000


def test_the_loop_turns_while_a_long_text_is_encoded():
    tokenizer = load_tokenizer(MODEL_DIR, num_threads=1)

    async def main():
        encoding = asyncio.create_task(tokenizer.encode(TEXT, add_special_tokens=True))
        turns = 0
        while not encoding.done():
            turns += 1
            await asyncio.sleep(0)
        return turns, await encoding

    turns, ids = asyncio.run(main())
    # Were the lock held, it would turn only before: some 1,000 times, in the 5 ms until it is taken away.
    assert turns > 10_000
    assert list(ids) == tokenizer.source(TEXT)["input_ids"]
