"""A question of the demo: shown, asked, and its answer printed as it comes."""

from tandem.cli.answer import Printed, print_answer
from tandem.client import Client
from tandem.request import Image, Message

_MAX_TOKENS = 256


class DemoError(Exception):
    """The demo did not go as it should; the message is one line."""


def ask(client: Client, question: str, *pictures: Image) -> Printed:
    """Prints a question, perhaps about pictures, and its answer by the model's defaults.

    Raises:
        DemoError: The answer was empty.
        KeyboardInterrupt: Ctrl-C ended the answer.
        TandemError: The request failed.
    """
    print(f"\n> {question}", flush=True)
    message = Message("user", [*pictures, question])
    printed = print_answer(lambda: client.stream_chat([message], max_tokens=_MAX_TOKENS))
    if printed.is_cancelled:
        raise KeyboardInterrupt
    if not printed.text.strip():
        raise DemoError(f"there was no answer to {question!r}")
    return printed
