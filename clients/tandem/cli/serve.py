"""`tandem serve`: both services on one machine."""

import argparse
import signal
import sys
from types import FrameType

from tandem.channel import DEFAULT_TARGET
from tandem.cli.flags import Commands
from tandem.cli.own_certificate import OwnCertificate, own_certificate
from tandem.cli.services import ServiceError, Services, reachable

_DEFAULT_ENGINE = "127.0.0.1:50052"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_TLS_FILES = (
    ("tls-cert", "PEM file of the certificate chain that clients see (default: none, plain text)"),
    ("tls-key", "PEM file of its private key (default: none)"),
    ("tls-client-ca", "PEM file of the roots of clients' certificates, which they must then show "
     "(default: none)"),
    ("tls-check-cert", "PEM file of a client's certificate, by which this command sees with "
     "--tls-client-ca that the service is up (default: none)"),
    ("tls-check-key", "PEM file of that certificate's private key (default: none)"),
)  # fmt: skip


def add_command(commands: Commands, default_target: str | None) -> None:
    """Adds the command to the parser."""
    parser = commands.add_parser(
        "serve",
        help="start both services on this machine",
        description="Starts the engine service and the tokenizer service, and stops both on Ctrl-C or "
        "SIGTERM; the second one stops them at once. Each can also be started alone: "
        "python -m engine_service, python -m tokenizer_service.",
    )
    parser.add_argument(
        "--model",
        default="demo",
        metavar="MODEL",
        help="a directory, a hub id, demo, or demo-pictures, which sees (default: demo)",
    )
    parser.add_argument(
        "--listen",
        default=DEFAULT_TARGET,
        metavar="ADDRESS",
        help=f"where clients connect: HOST:PORT or unix:PATH (default: {DEFAULT_TARGET})",
    )
    parser.add_argument(
        "--engine-listen",
        default=_DEFAULT_ENGINE,
        metavar="ADDRESS",
        help=f"where the engine service listens: HOST:PORT or unix:PATH (default: {_DEFAULT_ENGINE})",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="PROCESSES",
        help="how many tokenizer processes share the port (default: 1, in processes)",
    )
    parser.add_argument(
        "--tokens",
        metavar="PATH",
        help="file of the tokens that clients must show; `tandem token` makes them (default: none)",
    )
    for name, text in _TLS_FILES:
        parser.add_argument(f"--{name}", metavar="PATH", help=text)
    parser.add_argument(
        "--fake", action="store_true", help="run an engine without weights (default: the model's)"
    )
    for service in ("tokenizer", "engine"):
        parser.add_argument(
            f"--{service}-flag",
            action="append",
            default=[],
            metavar="FLAG",
            help=f"a flag for the {service} service, as in --{service}-flag=--name=value; repeatable "
            f"(default: none; python -m {service}_service --help lists them)",
        )
    parser.add_argument(
        "--start-timeout",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="how long loading may take (default: 3600, in seconds)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Runs the command."""
    for each in _SIGNALS:
        signal.signal(each, _stop)
    try:
        _serve(arguments)
    except KeyboardInterrupt:
        print("both services have stopped", file=sys.stderr)
        return 0
    except ServiceError as error:
        print(f"tandem: {error}", file=sys.stderr)
    return 1


def _stop(number: int, frame: FrameType | None) -> None:
    """Stops the services; the next signal ends this process, and with it their input and so them."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    raise KeyboardInterrupt


def _serve(arguments: argparse.Namespace) -> None:
    tokens = [] if arguments.tokens is None else [f"--tokens={arguments.tokens}"]
    certificate = own_certificate(vars(arguments))
    services = Services(
        arguments.model,
        arguments.listen,
        arguments.engine_listen,
        num_workers=arguments.workers,
        is_fake=arguments.fake,
        certificate=certificate,
        tokenizer_flags=[*tokens, *arguments.tokenizer_flag],
        engine_flags=arguments.engine_flag,
    )
    with services:
        services.wait_until_serving(arguments.start_timeout)
        _print_usage(reachable(arguments.listen), certificate)
        services.watch()


def _print_usage(target: str, certificate: OwnCertificate | None) -> None:
    flag = "" if target == DEFAULT_TARGET else f" --target {target}"
    shown = [] if certificate is None else ["tls_ca"]
    shown += ["tls_cert", "tls_key"] if certificate is not None and certificate.wants_certificates else []
    flag += "".join(f" --{name.replace('_', '-')} FILE" for name in shown)
    files = "".join(f', {name}="FILE"' for name in shown)
    print(f"{target} is ready. In another terminal:", flush=True)
    print(f"  tandem chat{flag}\n  tandem generate{flag} --chat 'What is 12 + 34?'", flush=True)
    print(f"  python -c 'import tandem; print(tandem.Client(\"{target}\"{files}).models())'", flush=True)
