"""Waking requests: at once when it is quiet, together when it is not."""

import asyncio
from collections import Counter

from tokenizer_service.bell import Bell
from tokenizer_service.engine_sequence import EngineSequence

# So many that the pause after them is half a second: nothing rings between two lines of a test.
MANY = 5000


def test_mail_in_quick_succession_is_one_ring():
    rung = Counter()

    async def main():
        bell = Bell()
        rung_again = asyncio.Event()

        def sequence(number):
            def on_mail():
                rung[number] += 1
                if rung[2] == 2:
                    rung_again.set()

            return EngineSequence(number, on_mail, lambda number, tokens: None, lambda number: None)

        sequences = [sequence(number) for number in range(MANY)]
        bell.ring_for(sequences)
        at_once = rung.copy()
        bell.ring_for(sequences[:2])
        bell.ring_for(sequences[1:3])
        soon_after = rung.copy()
        await rung_again.wait()
        return at_once, soon_after

    at_once, soon_after = asyncio.run(main())
    assert at_once == soon_after == Counter(dict.fromkeys(range(MANY), 1))
    assert [rung[number] for number in range(4)] == [2, 2, 2, 1]
