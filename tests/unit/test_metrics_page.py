"""What `tandem top` makes of two looks at a service."""

import contextlib
import socket
import threading

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tandem.cli import main as cli_main
from tandem.cli.metrics_page import Change, Page, fetch, opener, url_of
from tandem.cli.top_table import table


class Service:
    """Metrics, and looks at them two seconds apart."""

    def __init__(self):
        self.registry = CollectorRegistry()
        self.requests = Counter("requests", "x", ["outcome"], registry=self.registry)
        self.wait = Histogram("wait_seconds", "x", buckets=(1, 2, 4), registry=self.registry)
        self._time_s = 0.0

    def look(self):
        self._time_s += 2
        return Page(generate_latest(self.registry).decode(), self._time_s)


def test_rates_are_of_the_time_between_the_looks():
    service = Service()
    service.requests.labels("OK").inc(5)
    older = service.look()
    service.requests.labels("OK").inc(3)
    service.requests.labels("LATE").inc(1)
    change = Change(older, service.look())
    assert change.rate("requests_total") == 2
    assert change.rates("requests_total", "outcome") == {"OK": 1.5, "LATE": 0.5}
    assert change.rate("unknown_total") == 0


def test_one_look_has_no_rates_and_no_latencies():
    page = Service().look()
    assert Change(page, page).rate("requests_total") is None
    assert Change(page, page).quantile("wait_seconds", 0.5) is None


def test_a_service_that_began_anew_is_counted_from_0():
    service, again = Service(), Service()
    service.requests.labels("OK").inc(50)
    service.wait.observe(3)
    service.wait.observe(3)
    older = service.look()
    again.requests.labels("OK").inc(4)
    again.wait.observe(0.5)
    change = Change(older, Page(generate_latest(again.registry).decode(), 4.0))
    assert change.increase("requests_total") == 4
    assert change.quantile("wait_seconds", 1.0) == 1


@pytest.mark.parametrize(
    ("seconds", "share", "expected"),
    [
        pytest.param([0.5] * 4, 0.5, 0.5, id="first-bucket"),
        pytest.param([1.5] * 10, 0.5, 1.5, id="middle-of-a-bucket"),
        pytest.param([0.5] * 50 + [3.0] * 50, 0.99, 3.96, id="upper-bucket"),
        pytest.param([100.0] * 3, 0.99, 4, id="beyond-the-last-edge"),
    ],
)
def test_quantiles_are_of_what_is_new(seconds, share, expected):
    service = Service()
    for _ in range(1000):
        service.wait.observe(3)
    older = service.look()
    for each in seconds:
        service.wait.observe(each)
    assert Change(older, service.look()).quantile("wait_seconds", share) == pytest.approx(expected)


def test_the_table_stands_without_services_and_without_samples():
    assert sum("does not answer" in line for line in table(None, None)) == 2
    page = Page("", 0.0)
    lines = list(table(Change(page, page), Change(page, page)))
    assert "refused   none" in lines
    registry = CollectorRegistry()
    Gauge("tandem_engine_up", "x", registry=registry).set(1)
    up = Page(generate_latest(registry).decode(), 1.0)
    assert any("up, 0 workers connected" in line for line in table(None, Change(up, up)))


def test_addresses():
    assert url_of("here:1") == "http://here:1/metrics"
    assert url_of("here:1", is_tls=True) == "https://here:1/metrics"
    assert url_of("https://here/page") == "https://here/page"
    with pytest.raises(ValueError, match="'file:///etc/passwd': must be HOST:PORT or an http URL"):
        url_of("file:///etc/passwd")
    assert fetch("http://127.0.0.1:9/metrics", opener()) is None


@contextlib.contextmanager
def answering(data):
    """The address of a peer that reads the beginning of one request, says `data` and hangs up."""

    def answer():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize(
    "data",
    [b"\0\0\x12\x04\0\0\0\0\0", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nrequests_total 5\n"],
    ids=["no-http", "breaks-off"],
)
def test_what_is_no_whole_page_is_none(data):
    with answering(data) as address:
        assert fetch(url_of(address), opener()) is None


def test_an_address_that_cannot_be_is_no_page():
    assert fetch(url_of("127.0.0.1:9x"), opener()) is None


@pytest.mark.parametrize("interval", ["0", "1e-320", "-1", "nan", "inf", "1e10"])
def test_an_interval_that_cannot_be_waited_for_is_refused(interval, capsys):
    assert cli_main(["top", "--once", f"--interval={interval}"]) == 2
    said = f"tandem: interval={float(interval)}: must be at least 0.01 and at most 86400 s\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"tls_ca": "/none"}, "tls_ca='/none'.*No such file"),
        ({"tls_cert": "a"}, "must be given together"),
    ],
    ids=["missing", "no-key"],
)
def test_wrong_files_are_named(arguments, said):
    with pytest.raises(ValueError, match=said):
        opener(**arguments)
