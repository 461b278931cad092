"""The command line of `tandem bench serve`."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence

import tandem
from tandem.cli.flags import connection
from tandem.cli.services import ServiceError
from tandem_bench.checkpoint import checkpoint
from tandem_bench.services import started_services
from tandem_bench.serving import flags
from tandem_bench.serving.clients import ClientError
from tandem_bench.serving.command import Command
from tandem_bench.serving.run import Work
from tandem_bench.serving.server import Server, plain_server
from tandem_bench.shapes import SHAPES

EXIT_ERRORS = 1
EXIT_UNUSABLE = 2
EXIT_INTERRUPTED = 130

_CREDENTIALS = ("tls_ca", "tls_cert", "tls_key", "token_file")


def main(arguments: Sequence[str] | None = None, token: str | None = None) -> int:
    """Measures; returns 1 if requests failed, 2 if nothing could be measured, 130 after Ctrl-C.

    Args:
        arguments: The command line without the program's name; by default the process's own.
        token: What the service at `--target` is shown where there is no `--token-file`.
    """
    parser = flags.parser()
    parser.set_defaults(token=token)
    parsed = parser.parse_args(arguments)
    command = Command(parsed)
    status = 0
    try:
        with _server(parsed) as server:
            command.measure_all(server, _work(parsed, server))
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
    except (ClientError, ServiceError, tandem.TandemError, ValueError) as error:
        print(f"tandem: {error}", file=sys.stderr)
        status = EXIT_UNUSABLE
    command.show()
    return status or (EXIT_ERRORS if command.has_errors else 0)


@contextlib.contextmanager
def _server(parsed: argparse.Namespace) -> Iterator[Server]:
    """The service at `--target`; without that, services are started and ended here.

    Raises:
        ValueError: A flag of credentials is there without `--target`, or its file cannot be read.
    """
    if parsed.target:
        yield Server(target=parsed.target, **connection(parsed))
        return
    for name in _CREDENTIALS:
        if (path := getattr(parsed, name)) is not None:
            raise ValueError(f"{name}={path!r}: needs --target")
    model = str(checkpoint(SHAPES[parsed.shape], parsed.checkpoint_dir)) if parsed.shape else parsed.model
    fake_flags = [f"--fake-rate={parsed.fake_rate}"] if parsed.fake else []
    with started_services(
        model,
        num_workers=parsed.workers,
        is_fake=parsed.fake,
        engine_flags=[*fake_flags, *parsed.engine_flag],
        tokenizer_flags=parsed.tokenizer_flag,
    ) as addresses:
        yield plain_server(addresses.tokenizer)


def _work(parsed: argparse.Namespace, server: Server) -> Work:
    """What is asked of the model that is served there.

    Raises:
        ValueError: Requests are longer than its context.
    """
    with tandem.Client(**server) as client:
        (model,) = client.models()
    lengths = parsed.lengths if parsed.shrink == 1 else parsed.lengths.shrunk(parsed.shrink)
    longest = max(map(sum, zip(lengths.inputs, lengths.outputs, strict=True)))
    if longest > model.context_length:
        bound = f"the context length is {model.context_length}"
        raise ValueError(f"--lengths: requests of up to {longest} tokens; {bound}; --shrink divides them")
    return Work(lengths, model.vocab_size, parsed.seed, parsed.timeout, parsed.goal)
