"""Asks a service one question over and over from several threads, and tells how that went: TARGET SECONDS.

The exit status is 1 if a request failed that had answered nothing, which the client should have sent again.
"""

import sys
import threading
import time
from collections import Counter

import tandem

_THREADS = 4
_QUESTION, _ANSWER = "What is 12 + 34?", "12 + 34 = 46."


def ask(client: tandem.Client) -> str:
    """One word on how a request ended."""
    text = ""
    try:
        for event in client.stream_chat([{"role": "user", "content": _QUESTION}], temperature=0):
            if isinstance(event, tandem.Delta):
                text += event.text
    except tandem.UnavailableError as error:
        print(error, file=sys.stderr)
        return "cut" if text else "failed"
    return "answered" if text == _ANSWER else "wrong"


def keep_asking(target: str, end_s: float, counts: "Counter[str]") -> None:
    """Counts how requests ended until `end_s`."""
    with tandem.Client(target) as client:
        while time.monotonic() < end_s:
            counts[ask(client)] += 1


def main(target: str, seconds: float) -> int:
    """Runs the threads; returns the exit status."""
    counts: Counter[str] = Counter(answered=0, cut=0, failed=0, wrong=0)
    end_s = time.monotonic() + seconds
    threads = [threading.Thread(target=keep_asking, args=(target, end_s, counts)) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(", ".join(f"{count} {word}" for word, count in counts.items()))
    return int(counts["failed"] + counts["wrong"] > 0 or counts["cut"] > _THREADS or not counts["answered"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
