"""`tandem top`: what both services do, live."""

import argparse
import importlib.util
import os
import signal
import sys
import time
import urllib.request
from collections import deque

from tandem.cli.flags import Commands, add_tls_flags
from tandem.cli.metrics_page import Change, Page, fetch, opener, url_of
from tandem.cli.top_table import table

DEFAULT_TOKENIZER = "127.0.0.1:9151"
DEFAULT_ENGINE = "127.0.0.1:9152"

# Rates and latencies are of this time; shorter, they would jump and often have nothing to show.
_WINDOW_S = 10.0

# Neither asks the services without a pause, nor overflows the clock that waits.
_INTERVALS_S = (0.01, 86_400.0)

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # another screen, without the cursor
_HOME, _LINE_END, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


def add_command(commands: Commands, default_target: str | None) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "top",
        help="watch load, throughput and latencies",
        description="Shows what both services do, from their metrics: start them with --metrics-listen. "
        f"Rates and latencies are of the last {_WINDOW_S:g} seconds. Ctrl-C ends it.",
    )
    for service, default in (("tokenizer", DEFAULT_TOKENIZER), ("engine", DEFAULT_ENGINE)):
        parser.add_argument(
            f"--{service}-metrics",
            default=default,
            metavar="ADDRESS",
            help=f"the {service} service's metrics: HOST:PORT or an http URL (default: {default})",
        )
    parser.add_argument(
        "--interval",
        type=float,
        default=1.0,
        metavar="SECONDS",
        help="time between two looks (default: 1, in seconds)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="look twice, an interval apart, print what was seen, and end (default: until Ctrl-C)",
    )
    add_tls_flags(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    if importlib.util.find_spec("prometheus_client") is None:
        print("tandem: top needs prometheus_client: pip install prometheus-client", file=sys.stderr)
        return 1
    shortest_s, longest_s = _INTERVALS_S
    if not shortest_s <= arguments.interval <= longest_s:
        raise ValueError(
            f"interval={arguments.interval}: must be at least {shortest_s:g} and at most {longest_s:g} s"
        )
    by = opener(arguments.tls_ca, arguments.tls_cert, arguments.tls_key)
    services = [
        Watched(url_of(address, is_tls=arguments.tls_ca is not None), by, arguments.interval)
        for address in (arguments.tokenizer_metrics, arguments.engine_metrics)
    ]
    # As Ctrl-C, so that the terminal is given back.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if arguments.once:
            _look(services)
            time.sleep(arguments.interval)
            _print_lines(_look(services))
        elif sys.stdout.isatty():
            _show(services, arguments.interval)
        else:
            while True:
                _print_lines([*_look(services), ""])
                time.sleep(arguments.interval)
    except KeyboardInterrupt:
        return 0
    return 0 if all(service.answers for service in services) else 1


class Watched:
    """The looks at one service within the window.

    Attributes:
        answers: Whether it did when it was last looked at.
    """

    def __init__(self, url: str, by: urllib.request.OpenerDirector, interval_s: float) -> None:
        self.answers = False
        self._url = url
        self._by = by
        self._pages: deque[Page] = deque(maxlen=max(2, round(_WINDOW_S / interval_s) + 1))

    def look(self) -> Change | None:
        """What happened within the window; None if the service does not answer."""
        page = fetch(self._url, self._by)
        self.answers = page is not None
        if page is None:
            self._pages.clear()
            return None
        self._pages.append(page)
        return Change(self._pages[0], page)


def _look(services: list[Watched]) -> list[str]:
    tokenizer, engine = (service.look() for service in services)
    return list(table(tokenizer, engine))


def _print_lines(lines: list[str]) -> None:
    print("\n".join(lines), flush=True)


def _show(services: list[Watched], interval_s: float) -> None:
    """Draws over the last picture in one write, so that nothing flickers."""
    sys.stdout.write(_ENTER)
    try:
        while True:
            title = f"tandem top  {time.strftime('%H:%M:%S')}"
            lines = [title, "", *_look(services)]
            # Asked anew, not from the environment: the window may have changed.
            width, height = os.get_terminal_size(sys.stdout.fileno())
            shown = [line[:width] + _LINE_END for line in lines[:height]]
            sys.stdout.write(_HOME + "\n".join(shown) + _REST)
            sys.stdout.flush()
            time.sleep(interval_s)
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
