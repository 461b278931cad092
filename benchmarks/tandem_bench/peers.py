"""transformers on the same checkpoint and lengths, in processes of its own."""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass

from tandem_bench.bench import Bench, say

EAGER, COMPILED = "transformers-eager", "transformers-compiled"
KINDS = (EAGER, COMPILED)


@dataclass(frozen=True)
class PeerWork:
    """What a peer does: for each number of sequences, greedy answers of one length.

    Attributes:
        batches: Numbers of sequences, one after another.
    """

    batches: tuple[int, ...]
    num_input: int
    num_output: int
    repetitions: int


@dataclass(frozen=True)
class PeerBatch:
    """What a peer measured with one number of sequences.

    Attributes:
        ms_per_step: After the first token; one entry for each repetition.
        tokens_per_s: Of the whole run, prefill included.
    """

    num_seqs: int
    ms_per_step: list[float]
    tokens_per_s: list[float]


@dataclass(frozen=True)
class PeerResult:
    """What there is of a peer.

    Attributes:
        batches: Those that were finished.
        error: Why there are no more; empty if there are none missing.
    """

    batches: list[PeerBatch]
    error: str


def run_peer(bench: Bench, kind: str, work: PeerWork) -> PeerResult:
    """Runs a peer, which may fail or take too long; the device must have room for it."""
    settings = bench.settings
    job = {
        "directory": str(bench.checkpoint),
        "device": settings.device,
        "dtype": settings.dtype,
        "vocab_size": settings.shape.vocab_size,
        "is_compiled": kind == COMPILED,
        **asdict(work),
    }
    say(f"{kind}: {work.batches} sequences, {work.num_output} tokens each")
    command = [sys.executable, "-m", "tandem_bench.peer_process", json.dumps(job)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=settings.peer_timeout_s)
    except subprocess.TimeoutExpired as expired:
        # What a killed process has written comes as bytes, whatever was asked for.
        written = expired.stdout.decode() if isinstance(expired.stdout, bytes) else ""
        return _result(kind, written, f"took more than {settings.peer_timeout_s:g} s")
    error = _last_line(done.stderr) if done.returncode else ""
    return _result(kind, done.stdout, error)


def _result(kind: str, written: str, error: str) -> PeerResult:
    lines = [line for line in written.splitlines() if line.startswith("{")]
    result = PeerResult([PeerBatch(**json.loads(line)) for line in lines], error)
    for batch in result.batches:
        say(f"{kind}: {batch.num_seqs} sequences: {min(batch.ms_per_step):.4g} ms/step")
    if error:
        say(f"{kind}: {error}")
    return result


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it died without a word"])[-1]
