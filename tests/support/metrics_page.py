"""What a service tells Prometheus."""

import re
import time
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

Page = dict[tuple[str, frozenset[tuple[str, str]]], float]
"""Samples by name and labels; histograms by their `_count`, `_sum` and `_bucket`."""


def metrics_url(log: Path, timeout_s: float = 30) -> str:
    """Where a service with `--metrics-listen` said that its metrics are."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if found := re.search(r"metrics on (https?://\S+)", log.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"no metrics: {log.read_text()}")


def scrape(url: str) -> Page:
    """The page as it is now."""
    with urllib.request.urlopen(url, timeout=10) as response:
        text = response.read().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(page: Page, name: str, **labels: str) -> float:
    """One sample; 0 where it is not there yet."""
    return page.get((name, frozenset(labels.items())), 0.0)


def by_label(page: Page, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The samples of a name by the values of these labels."""
    return {
        tuple(dict(key)[each] for each in labels): count
        for (found, key), count in page.items()
        if found == name
    }


def wait_for(url: str, name: str, expected: float, timeout_s: float = 20, **labels: str) -> Page:
    """The first page on which a sample has the expected value."""
    end_s = time.monotonic() + timeout_s
    while value(page := scrape(url), name, **labels) != expected:
        assert time.monotonic() < end_s, f"{name}={value(page, name, **labels)}, not {expected}"
        time.sleep(0.05)
    return page
