"""The results of one run of the benchmarks: written after every measurement, shown at the end."""

from pathlib import Path

from tandem_bench.bench import Bench
from tandem_bench.measurement import HEADER, Failure, Measurement, Outcome, table
from tandem_bench.record import write_result


class Results:
    """What has been measured so far."""

    def __init__(self, bench: Bench, name: str, directory: Path, commit: str) -> None:
        """Writes nothing yet; `name` is the file's stem."""
        self._bench = bench
        self._name = name
        self._directory = directory
        self._commit = commit
        self._measurements: list[Measurement] = []
        self._failures: list[Failure] = []

    @property
    def has_failures(self) -> bool:
        """Whether anything could not be measured."""
        return bool(self._failures)

    @property
    def path(self) -> Path:
        """The file that holds them."""
        return self._directory / f"{self._name}.json"

    def add(self, outcome: Outcome) -> None:
        """Takes a measurement and writes the file anew."""
        if isinstance(outcome, Measurement):
            self._measurements.append(outcome)
        else:
            self._failures.append(outcome)
        figures = {
            **self._bench.settings.to_json(),
            "ceilings": self._bench.ceilings.to_json(),
            "measurements": [each.to_json() for each in self._measurements],
            "failures": [each.to_json() for each in self._failures],
        }
        write_result(self._name, figures, self._directory, self._commit)

    def table(self) -> str:
        """All measurements, a line each, and what failed."""
        lines = [table([HEADER, *(each.row() for each in self._measurements)])]
        return "\n".join([*lines, *(f"{each.name}: FAILED: {each.error}" for each in self._failures)])
