"""The two services as child processes."""

import importlib.util
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tandem.cli.health import wait_until_serving
from tandem.cli.own_certificate import OwnCertificate

# Packages whose absence means that an extra is not installed.
_TOKENIZER_NEEDS = ("grpc_health", "tokenizers", "transformers")
_ENGINE_NEEDS = ("grpc_health", "safetensors", "torch")
_FAKE_ENGINE_NEEDS = ("grpc_health",)
# Longer than the services' own grace time, after which they end what still runs.
_STOP_TIMEOUT_S = 60.0
_WATCH_PAUSE_S = 0.5


class ServiceError(Exception):
    """A service did not start, or died; the message is one line."""


class _Service:
    """One child process."""

    def __init__(
        self,
        name: str,
        module: str,
        address: str,
        flags: Sequence[str],
        certificate: OwnCertificate | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self.credentials = certificate.credentials if certificate else None
        self.options = certificate.options if certificate else ()
        tls = certificate.flags if certificate else []
        # A session of its own: Ctrl-C goes to us alone, and we stop the services in order. Their stdin is
        # never written to; it ends when we do, and they with it. Their stdout joins our stderr, since
        # ours may carry an answer.
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--listen", address, "--ends-with-input", *tls, *flags],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno(),
            start_new_session=True,
        )

    def check_alive(self) -> None:
        status = self.process.poll()
        if status is not None:
            ended = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
            raise ServiceError(f"the {self.name} ended {ended}; its last lines above say why")

    def stop(self) -> None:
        """Ends the process, by SIGTERM first; raises if it had to be killed."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServiceError(f"the {self.name} had to be killed after {_STOP_TIMEOUT_S:g} s") from None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Services:
    """An engine service and a tokenizer service. Both have ended when the context has."""

    def __init__(
        self,
        model: str,
        listen: str,
        engine_listen: str,
        *,
        num_workers: int = 1,
        is_fake: bool = False,
        certificate: OwnCertificate | None = None,
        tokenizer_flags: Sequence[str] = (),
        engine_flags: Sequence[str] = (),
    ) -> None:
        """Starts both.

        Args:
            model: A directory, a hub id, `demo` or `demo-pictures`.
            listen: The tokenizer service's address.
            engine_listen: The engine service's address.
            num_workers: Processes of the tokenizer service.
            is_fake: Whether the engine runs without weights.
            certificate: The tokenizer service's; None for plain text.
            tokenizer_flags: Further flags of the tokenizer service.
            engine_flags: Further flags of the engine service.

        Raises:
            ServiceError: An extra is not installed, or an address is taken.
        """
        _check_installed(is_fake)
        for address in (listen, engine_listen):
            _check_free(address)
        fake = ["--fake"] if is_fake else []
        engine = ["--model", model, *fake, *engine_flags]
        tokenizer = ["--model", model, "--engine", engine_listen, "--workers", str(num_workers)]
        self._engine = _Service("engine service", "engine_service", engine_listen, engine)
        try:
            self._tokenizer = _Service(
                "tokenizer service", "tokenizer_service", listen, [*tokenizer, *tokenizer_flags], certificate
            )
        except BaseException:
            self._engine.kill()
            raise

    def wait_until_serving(self, timeout_s: float) -> None:
        """Waits for both, and says so on stderr.

        Raises:
            ServiceError: One of them ended, or was not healthy within `timeout_s` seconds.
        """
        for service in (self._engine, self._tokenizer):
            start_s = time.monotonic()
            print(f"waiting for the {service.name} on {service.address}", file=sys.stderr, flush=True)
            try:
                wait_until_serving(
                    reachable(service.address),
                    timeout_s,
                    self._check_alive,
                    service.credentials,
                    service.options,
                )
            except TimeoutError as error:
                raise ServiceError(f"the {service.name}: {error}") from None
            elapsed_s = time.monotonic() - start_s
            print(f"the {service.name} is up after {elapsed_s:.1f} s", file=sys.stderr, flush=True)

    def watch(self) -> None:
        """Returns never; raises ServiceError when one of them ends."""
        while True:
            self._check_alive()
            time.sleep(_WATCH_PAUSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The tokenizer service first: its requests need the engine to finish.
        try:
            self._tokenizer.stop()
            self._engine.stop()
        except BaseException:
            # A second Ctrl-C, or a service that does not end.
            self._tokenizer.kill()
            self._engine.kill()
            raise

    def _check_alive(self) -> None:
        self._engine.check_alive()
        self._tokenizer.check_alive()


def reachable(address: str) -> str:
    """The address by which a client on this machine reaches a service that listens on `address`."""
    for everywhere, loopback in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):
        if address.startswith(everywhere):
            return loopback + address.removeprefix(everywhere)
    return address


def free_address() -> str:
    """A loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _check_installed(is_fake: bool) -> None:
    needs = {"tokenizer": _TOKENIZER_NEEDS, "engine": _FAKE_ENGINE_NEEDS if is_fake else _ENGINE_NEEDS}
    missing = ",".join(
        extra
        for extra, packages in needs.items()
        if any(importlib.util.find_spec(package) is None for package in packages)
    )
    if missing:
        raise ServiceError(f"the services are not installed here: pip install 'tandem-llm[{missing}]'")


def _check_free(address: str) -> None:
    """Finds a service of an earlier start, whose health would be taken for that of the new one."""
    host, _, port = address.rpartition(":")
    if address.startswith("unix:") or not port.isdigit():
        return
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise ServiceError(f"cannot listen on {address}: {error.strerror}") from None
