"""Making training rows in parallel processes. No torch here: every worker process would load it."""

import multiprocessing
import os
import time

from tokenizers import Tokenizer

from tandem_demo.text.packing import Rows, join_rows, make_rows

CHUNK = 2000
"""Conversations that a process makes at a time."""

_tokenizers: list[Tokenizer] = []


def generate_rows(
    tokenizer: Tokenizer, seed: int, num_conversations: int, num_processes: int, limit_s: float
) -> dict[int, Rows]:
    """Rows by length. Chunks come in a fixed order; those not ready within `limit_s` seconds are left out."""
    started = time.monotonic()
    chunk = min(CHUNK, num_conversations)
    seeds = [seed * 1_000_003 + index for index in range(num_conversations // chunk)]
    parts: list[dict[int, Rows]] = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(num_processes, _load_tokenizer, (tokenizer.to_str(),)) as pool:
        for part in pool.imap(_make_chunk, [(chunk_seed, chunk) for chunk_seed in seeds]):
            parts.append(part)
            if time.monotonic() - started > limit_s:
                print(
                    f"data: {len(parts)} of {len(seeds)} chunks within {limit_s:.0f} s, going on", flush=True
                )
                break
    return join_rows(parts)


def _load_tokenizer(text: str) -> None:
    """Called once in each worker process; threads of its own would only get in the others' way."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _tokenizers.append(Tokenizer.from_str(text))


def _make_chunk(task: tuple[int, int]) -> dict[int, Rows]:
    seed, num_conversations = task
    return make_rows(_tokenizers[0], seed, num_conversations)
