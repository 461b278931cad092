"""What requests use of their client's quotas."""

from tandem_service.access import count_tokens
from tokenizer_service.events import Delta, Event, Started


def count(event: Event) -> None:
    """Counts the tokens that an event brings; the prompt of several answers once."""
    if isinstance(event, Delta):
        count_tokens(event.num_tokens)
    elif isinstance(event, Started) and event.index == 0:
        count_tokens(event.prompt_tokens)
