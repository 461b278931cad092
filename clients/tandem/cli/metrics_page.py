"""What a service tells Prometheus, looked at once, and what changed between two looks."""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping

_TIMEOUT_S = 2.0


class Page:
    """The samples of one look.

    Attributes:
        time_s: When it was, on the monotonic clock.
    """

    def __init__(self, text: str, time_s: float) -> None:
        """`text` is in Prometheus' format.

        Raises:
            ImportError: prometheus_client is not installed.
            ValueError: It is in no such format.
        """
        from prometheus_client.parser import text_string_to_metric_families

        self.time_s = time_s
        self._samples: defaultdict[str, list[tuple[Mapping[str, str], float]]] = defaultdict(list)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples[sample.name].append((sample.labels, sample.value))

    def total(self, name: str) -> float:
        """The sum of a name's samples; 0 where there are none."""
        return sum(value for _, value in self._samples[name])

    def totals(self, name: str, label: str) -> dict[str, float]:
        """The sums of a name's samples by the values of a label."""
        sums: defaultdict[str, float] = defaultdict(float)
        for labels, value in self._samples[name]:
            sums[labels.get(label, "")] += value
        return sums


class Change:
    """What happened between two looks at one service."""

    def __init__(self, older: Page, newer: Page) -> None:
        self.newer = newer
        self._older = older
        self._seconds = newer.time_s - older.time_s

    def increase(self, name: str) -> float:
        """By how much a counter grew; one that fell began anew with its service."""
        older, newer = self._older.total(name), self.newer.total(name)
        return newer - older if newer >= older else newer

    def rate(self, name: str) -> float | None:
        """The increase of a counter in a second; None where there was only one look."""
        return self.increase(name) / self._seconds if self._seconds > 0 else None

    def rates(self, name: str, label: str) -> dict[str, float]:
        """The same for each value of a label; values that did not grow are left out."""
        older, newer = self._older.totals(name, label), self.newer.totals(name, label)
        grown = {key: value - older.get(key, 0.0) for key, value in newer.items()}
        return {key: value / self._seconds for key, value in grown.items() if value > 0 and self._seconds > 0}

    def quantile(self, name: str, share: float) -> float | None:
        """The value below which `share` of a histogram's new observations lie, interpolated within its
        bucket as Prometheus does; None if there were none.
        """
        buckets = self._new_buckets(name)
        rank = share * buckets[-1][1] if buckets else 0.0
        last_edge = last_count = 0.0
        for edge, count in buckets:
            if count >= rank and count > last_count:
                if edge == float("inf"):
                    return last_edge
                return last_edge + (edge - last_edge) * (rank - last_count) / (count - last_count)
            last_edge, last_count = edge, count
        return None

    def _new_buckets(self, name: str) -> list[tuple[float, float]]:
        """(Upper edge, observations up to it), ascending."""
        older, newer = (page.totals(f"{name}_bucket", "le") for page in (self._older, self.newer))
        if any(newer.get(edge, 0.0) < count for edge, count in older.items()):
            older = {}
        return sorted((float(edge), count - older.get(edge, 0.0)) for edge, count in newer.items())


def url_of(address: str, *, is_tls: bool = False) -> str:
    """The page of `HOST:PORT`, by HTTPS if `is_tls`, or of a URL as it stands.

    Raises:
        ValueError: It is a URL of another kind.
    """
    if "://" not in address:
        return f"{'https' if is_tls else 'http'}://{address}/metrics"
    if not address.startswith(("http://", "https://")):
        raise ValueError(f"{address!r}: must be HOST:PORT or an http URL")
    return address


def opener(
    tls_ca: str | None = None, tls_cert: str | None = None, tls_key: str | None = None
) -> urllib.request.OpenerDirector:
    """What opens pages; see `Client` for the arguments. Without roots, the system's are taken.

    Raises:
        ValueError: A file cannot be used, or is given without the others that it needs.
    """
    where = f"tls_ca={tls_ca!r}, tls_cert={tls_cert!r}, tls_key={tls_key!r}"
    if (tls_cert is None) != (tls_key is None):
        raise ValueError(f"{where}: tls_cert and tls_key must be given together")
    try:
        context = ssl.create_default_context(cafile=tls_ca)
        if tls_cert is not None:
            context.load_cert_chain(tls_cert, tls_key, password="")
    except OSError as error:  # ssl.SSLError is one
        raise ValueError(f"{where}: {error.strerror}") from None
    # A proxy of the environment would be asked for loopback addresses as well.
    return urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )


def fetch(url: str, by: urllib.request.OpenerDirector) -> Page | None:
    """Looks once; None if there is no such page, or it breaks off."""
    try:
        with by.open(url, timeout=_TIMEOUT_S) as response:
            text = response.read().decode()
        return Page(text, time.monotonic())
    except (OSError, ValueError, http.client.HTTPException):
        return None
