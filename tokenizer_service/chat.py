"""Conversations to prompts, by the model's chat template."""

import inspect
import itertools
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from jinja2 import TemplateError

from tandem_service.errors import Violation, invalid
from tokenizer_service.request import Chat, ChatMessage

# What a template may raise on data that it was not written for.
_TEMPLATE_FAULTS = (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class ChatTemplate:
    """Renders chats as transformers does: in its sandbox, with its extra functions."""

    def __init__(self, source: Any, image_token: str = "") -> None:
        """`source` is a transformers tokenizer; `image_token` the text of a model's image placeholder."""
        self._source = source
        self._image_token = image_token
        parameters = inspect.signature(source.apply_chat_template).parameters.values()
        self._reserved = {"messages", *(each.name for each in parameters)} - {"documents"}

    @property
    def exists(self) -> bool:
        """Whether the model has a chat template."""
        return bool(self._source.chat_template)

    def render(self, chat: Chat) -> str:
        """The prompt of a chat.

        Raises:
            InvalidRequestError: There is no template, or it refuses the chat.
        """
        if not self.exists:
            raise invalid(Violation("chat", "the model has no chat template; send a prompt"))
        self._check_variables(chat.template_variables)
        add_generation_prompt = chat.add_generation_prompt
        content = self._content
        try:
            prompt = self._source.apply_chat_template(
                [{"role": message.role, "content": content(message)} for message in chat.messages],
                tools=list(chat.tools) or None,
                add_generation_prompt=not chat.is_continued
                if add_generation_prompt is None
                else add_generation_prompt,
                continue_final_message=chat.is_continued,
                tokenize=False,
                **chat.template_variables,
            )
        except _TEMPLATE_FAULTS as error:
            raise invalid(Violation("chat", f"the chat template refuses it: {error}")) from None
        return str(prompt)

    def _content(self, message: ChatMessage) -> Any:
        """A message for the template: a list of parts where the template reads those, else a text.

        In a text, an image is its placeholder and a line break, as LLaVA was trained.
        """
        if not self._image_token:
            return message.text
        if self._takes_parts:
            return _merged(message)
        return "".join(part if isinstance(part, str) else f"{self._image_token}\n" for part in message.parts)

    @cached_property
    def _takes_parts(self) -> bool:
        """Whether the template finds the image in a list of parts, and does not print the list."""
        parts = [{"type": "image"}, {"type": "text", "text": "words"}]
        try:
            prompt = str(
                self._source.apply_chat_template([{"role": "user", "content": parts}], tokenize=False)
            )
        except _TEMPLATE_FAULTS:
            return False
        return self._image_token in prompt and "'type'" not in prompt

    def _check_variables(self, variables: Mapping[str, Any]) -> None:
        for name in variables:
            if name in self._reserved:
                raise invalid(Violation(f"chat.template_variables.{name}", "the name is reserved"))


def _merged(message: ChatMessage) -> list[dict[str, str]]:
    """The parts as transformers' templates read them; texts beside each other are one."""
    parts: list[dict[str, str]] = []
    for is_text, run in itertools.groupby(message.parts, lambda part: isinstance(part, str)):
        if is_text:
            parts.append({"type": "text", "text": "".join(part for part in run if isinstance(part, str))})
        else:
            parts += [{"type": "image"} for _ in run]
    return parts
