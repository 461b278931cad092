"""The loads of one command, and what has been measured of them."""

import argparse
from typing import Any

from tandem_bench.record import write_result
from tandem_bench.serving.clients import Clients
from tandem_bench.serving.figures import Figures
from tandem_bench.serving.load_plan import Load
from tandem_bench.serving.report import loads_plot, loads_table
from tandem_bench.serving.run import Work, measure
from tandem_bench.serving.server import Server
from tandem_bench.serving.slow_readers import SlowReaders

_WARM_UP_AT_A_RATE = 16


class Command:
    """Measures one load after the other; what there is can be shown at any time."""

    def __init__(self, parsed: argparse.Namespace) -> None:
        """`parsed` are the flags."""
        self._parsed = parsed
        self._figures: list[Figures] = []
        self._slow: dict[str, Any] = {}

    @property
    def has_errors(self) -> bool:
        """Whether any request failed."""
        return any(each.errors() for each in self._figures)

    def measure_all(self, server: Server, work: Work) -> None:
        """Runs all loads.

        Raises:
            KeyboardInterrupt: Ctrl-C came.
            ClientError: A client process ended.
        """
        with Clients(server, self._parsed.clients) as clients:
            for load in _loads(self._parsed):
                self._measure(clients, work, load)
                if self._parsed.slow_readers:
                    self._measure_beside_slow(server, clients, work, load)

    def show(self) -> None:
        """Prints the table and writes the files, of whatever there is."""
        loads = [each.to_json() for each in self._figures]
        if not loads:
            return
        print(loads_table(loads))
        for name, compared in self._slow.items():
            change = compared["itl_p99_change_percent"]
            said = "no answer had gaps between its tokens" if change is None else f"{change:+.1f} %"
            print(f"{name}, ITL p99 beside slow readers: {said}")
        parsed = self._parsed
        figures = {"loads": loads, "slow_readers": self._slow}
        path = write_result(parsed.name, figures, parsed.out, parsed.commit)
        plot = path.with_suffix(".svg")
        plot.write_text(loads_plot(f"{parsed.name}: latency over load", loads), encoding="utf-8")
        print(f"written to {path} and {plot}")

    def _measure(self, clients: Clients, work: Work, load: Load) -> Figures:
        num_warm_up = self._parsed.warm_up
        if num_warm_up is None:
            num_warm_up = load.num_streams or _WARM_UP_AT_A_RATE
        found = measure(clients, work, load, num_warm_up)
        self._figures.append(found)
        if found.was_interrupted:
            raise KeyboardInterrupt
        return found

    def _measure_beside_slow(self, server: Server, clients: Clients, work: Work, load: Load) -> None:
        """By turns alone and beside slow readers, so that a drift of the machine meets both."""
        slow = SlowReaders(self._parsed.slow_readers, self._parsed.slow_pause)
        alone, beside = [self._figures[-1]], list[Figures]()
        for number in range(self._parsed.repetitions):
            if number:
                alone.append(self._measure(clients, work, load))
            with slow.reading(server, work):
                beside.append(self._measure(clients, work, load))
        self._slow[load.name] = slow.compared(alone, beside)


def _loads(parsed: argparse.Namespace) -> list[Load]:
    streams = parsed.streams or (() if parsed.rate else (1, 16, 64))
    return [
        *(Load(num_streams=each, num_requests=parsed.requests) for each in streams),
        *(Load(rate=each, num_requests=parsed.requests) for each in parsed.rate),
    ]
